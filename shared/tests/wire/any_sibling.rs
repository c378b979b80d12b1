//! Any frame of siblings, and of a home that tells of servers, that is within bounds.

use pams_shared::{
    frame::{
        ADDRESSES_MAX, Account, Check, Checked, Deltas, FINDINGS_MAX, Finding, Follow, Frame, HOPS_MAX, Held, HomeLost,
        Lot, Member, Move, Packed, Probe, ProbeAck, SWIM_BYTES_MAX, Server, Shared,
    },
    id::ServerId,
    record::{Kind, Ledger, Stage},
    status::Liveness,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use uuid::Uuid;

use crate::any::{
    any_address, any_end, any_kind, any_ledger, any_peer, any_presence, any_profile, any_rejected, any_role, any_short,
    any_stages, any_status, any_text,
};

pub(crate) fn any_of_siblings() -> impl Strategy<Value = Frame> {
    prop_oneof![
        vec((any_member(), any::<u32>()).prop_map(|(member, load)| Server { member, load }), 0..4)
            .prop_map(Frame::Servers),
        (option::of(any_server()), any_text()).prop_map(|(server, detail)| Frame::Move(Move { server, detail })),
        (any_short(), any_peer(), any::<u32>()).prop_map(|(correlator, peer, within_ms)| Frame::Check(Check {
            correlator,
            peer,
            within_ms
        })),
        (any_short(), any_finding()).prop_map(|(correlator, finding)| Frame::Checked(Checked { correlator, finding })),
        (any_server(), any::<[u64; 2]>()).prop_map(|(server, [generation, for_ms])| Frame::HomeLost(HomeLost {
            server,
            generation,
            for_ms
        })),
        any::<bool>().prop_map(Frame::HomeLostAck),
        vec(any::<u8>(), 1..=SWIM_BYTES_MAX).prop_map(Frame::Gossip),
        (any_server(), any::<[u64; 2]>()).prop_map(|(owner, [generation, from])| Frame::Follow(Follow {
            owner,
            generation,
            from
        })),
        any_deltas().prop_map(Frame::Deltas),
        any::<[u64; 2]>().prop_map(|[generation, upto]| Frame::Held(Held { generation, upto })),
        (any_peer(), any_short(), any::<u32>(), 0..=HOPS_MAX).prop_map(|(peer, correlator, within_ms, hops)| {
            Frame::Probe(Probe { peer, correlator, within_ms, hops })
        }),
        prop_oneof![vec(any_finding(), 0..=FINDINGS_MAX).prop_map(Ok), any_rejected().prop_map(Err)]
            .prop_map(|verdict| Frame::ProbeAck(ProbeAck(verdict))),
    ]
}

fn any_server() -> impl Strategy<Value = ServerId> {
    any::<[u8; 16]>().prop_map(ServerId::from_bytes)
}

pub(crate) fn any_member() -> impl Strategy<Value = Member> {
    let labels = (any_text(), any_text(), any_text());
    let addresses = vec(any_address(), 0..=ADDRESSES_MAX);
    (any_server(), 1..=u64::MAX, labels, addresses, option::of(any_address())).prop_map(
        |(id, generation, (name, region, software), addresses, http)| Member {
            id,
            generation,
            name,
            addresses,
            http,
            region,
            software,
        },
    )
}

fn any_finding() -> impl Strategy<Value = Finding> {
    let times = (option::of(any::<u64>()), any_stages(&Stage::EXCHANGE));
    (any::<[u8; 16]>(), any_role(), any_end(), times, option::of(any_status())).prop_map(
        |(by, by_role, (outcome, reason), (total_ns, stages), status)| Finding {
            by: Uuid::from_bytes(by),
            by_role,
            outcome,
            reason,
            total_ns,
            stages,
            status,
        },
    )
}

fn any_deltas() -> impl Strategy<Value = Deltas> {
    let marks = (any::<[bool; 3]>(), any::<u64>(), option::of(any::<u64>()));
    (1..=u64::MAX).prop_flat_map(move |generation| {
        (any_server(), vec(any_shared(generation), 0..6), marks.clone()).prop_map(
            move |(owner, entries, ([anew, bulk, bulk_end], upto, digest))| Deltas {
                owner,
                generation,
                anew,
                bulk,
                bulk_end,
                upto,
                entries,
                digest,
            },
        )
    })
}

/// On a stream of this generation.
fn any_shared(stream: u64) -> impl Strategy<Value = Shared> {
    let lot = prop_oneof![
        any_lot().prop_map(|lot| (Some(Packed::new(&lot)), false)),
        any::<bool>().prop_map(|banned| (None, banned)),
    ];
    (any_peer(), prop_oneof![Just(stream), 1..=stream], 1..=u64::MAX, any::<[u64; 2]>(), lot).prop_map(
        |(peer, generation, seq, [epoch, attach], (lot, banned))| Shared {
            peer,
            generation,
            seq,
            epoch,
            attach,
            lot,
            banned,
        },
    )
}

pub(crate) fn any_lot() -> impl Strategy<Value = Lot> {
    let numbers = (any::<bool>(), any::<[u64; 3]>());
    let liveness = select(&Liveness::ALL[..]);
    let parts = (any_profile(), option::of(any_presence()), option::of(any_address()), any_text());
    (parts, numbers, liveness, any_accounts()).prop_map(
        |((profile, presence, observed, pid), (said, [since_ms, applied, shed]), liveness, accounts)| Lot {
            profile,
            presence,
            said,
            liveness,
            since_ms,
            observed,
            applied,
            shed,
            accounts,
            pid,
        },
    )
}

/// One a kind.
fn any_accounts() -> impl Strategy<Value = Vec<Account>> {
    let account = (any_kind(), any_ledger(), option::of(any_ledger()), any::<u64>());
    vec(account, 0..5).prop_map(|accounts| {
        let mut one_a_kind: Vec<Account> = Vec::new();
        for (kind, reported, before, owed) in accounts {
            if one_a_kind.iter().all(|a| a.kind != kind) {
                one_a_kind.push(account_of(kind, reported, before, owed));
            }
        }
        one_a_kind
    })
}

/// What was booked before the epoch adds to what it reported.
fn account_of(kind: Kind, reported: Ledger, before: Option<Ledger>, owed: u64) -> Account {
    let mut booked = reported;
    before.iter().for_each(|before| booked.add(before));
    Account { kind, reported, booked, owed: owed.min(booked.unknown) }
}
