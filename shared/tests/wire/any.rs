//! Any frame that is within bounds.

use std::net::SocketAddr;

use pams_shared::{
    frame::{
        CHAIN_MAX, CHANGES_MAX, Entry, Frame, Hello, HelloAck, Issued, Join, News, Notify, NotifyAck, Ping, Pong,
        Profile, Refusal, Refused, Rejected, Rejection, Report, ReportAck, Role, Roster, Rostered, SubscribeAck, Terms,
        View,
    },
    id::{Correlator, Order, PeerId},
    record::{Kind, Ledger, Outcome, Reason, Record, Stage, Stages},
    status::{Liveness, Presence, Status},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use uuid::Uuid;

use crate::any_sibling::{any_member, any_of_siblings};

pub(crate) const REJECTIONS: [Rejection; 7] = [
    Rejection::Role,
    Rejection::Key,
    Rejection::Epoch,
    Rejection::Expired,
    Rejection::Busy,
    Rejection::Oneself,
    Rejection::Protocol,
];

pub(crate) const REFUSALS: [Refusal; 11] = [
    Refusal::TokenUnknown,
    Refusal::TokenSecret,
    Refusal::TokenUsedUp,
    Refusal::TokenExpired,
    Refusal::TokenRevoked,
    Refusal::TokenRole,
    Refusal::IdTaken,
    Refusal::Csr,
    Refusal::Expired,
    Refusal::Busy,
    Refusal::Protocol,
];

pub(crate) fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![2 => any_first(), 1 => any_of_siblings()]
}

/// Of peers and homes.
fn any_first() -> impl Strategy<Value = Frame> {
    let der = || vec(any::<u8>(), 1..64);
    prop_oneof![
        any_short().prop_map(|correlator| Frame::Ping(Ping { correlator })),
        any_pong().prop_map(Frame::Pong),
        any_hello().prop_map(Frame::Hello),
        any_hello_ack().prop_map(Frame::HelloAck),
        Just(Frame::Goodbye),
        any_peer().prop_map(Frame::Fetch),
        option::of(any_entry()).prop_map(|e| Frame::FetchAck(e.map(Box::new))),
        any_peer().prop_map(Frame::Subscribe),
        any_subscribe_ack().prop_map(Frame::SubscribeAck),
        any_peer().prop_map(Frame::Unsubscribe),
        (any::<u64>(), any_news(), option::of(any_short()))
            .prop_map(|(number, news, correlator)| Frame::Notify(Notify { number, news, correlator })),
        (any_peer(), any::<u64>(), option::of(any::<u64>()), option::of(any_short())).prop_map(
            |(peer, number, hold_ns, correlator)| Frame::NotifyAck(NotifyAck { peer, number, hold_ns, correlator })
        ),
        any_report().prop_map(Frame::Report),
        any::<[u64; 3]>().prop_map(|[batch, pace_ms, came]| Frame::ReportAck(ReportAck { batch, pace_ms, came })),
        der().prop_map(Frame::Renew),
        vec(any_rostered(), 0..8).prop_map(|peers| Frame::Roster(Roster { peers })),
        any_join().prop_map(Frame::Join),
        (vec(der(), 1..=CHAIN_MAX), der(), "[a-z.]{1,40}").prop_map(|(chain, root, domain)| Frame::Issued(Issued {
            chain,
            root,
            domain
        })),
        (select(&REFUSALS[..]), any_text()).prop_map(|(code, detail)| Frame::Refused(Refused { code, detail })),
    ]
}

pub(crate) fn any_text() -> impl Strategy<Value = String> {
    "[ -~äöü☃]{0,16}"
}

pub(crate) fn any_peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 16]>().prop_map(PeerId::from_bytes)
}

pub(crate) fn any_short() -> impl Strategy<Value = Correlator> {
    any::<[u8; 16]>().prop_map(Correlator::of_uuid)
}

pub(crate) fn any_address() -> impl Strategy<Value = SocketAddr> {
    any::<SocketAddr>().prop_map(|mut a| {
        // The text of an address has no flow label.
        if let SocketAddr::V6(a) = &mut a {
            a.set_flowinfo(0);
        }
        a
    })
}

pub(crate) fn any_status() -> impl Strategy<Value = Status> {
    select(&Status::ALL[..])
}

fn any_pong() -> impl Strategy<Value = Pong> {
    (any_short(), any_status(), option::of(any::<u64>()), any::<u64>())
        .prop_map(|(correlator, status, hold_ns, version)| Pong { correlator, status, hold_ns, version })
}

pub(crate) fn any_profile() -> impl Strategy<Value = Profile> {
    let applications = vec(any::<[u8; 16]>().prop_map(Uuid::from_bytes), 0..3);
    let lists = (vec(any_address(), 0..3), vec("[a-z/]{1,8}", 0..3), applications);
    let metrics = option::of(any_address().prop_filter("a port", |a| a.port() != 0));
    (any_text(), any_text(), lists, any::<(u64, u32)>(), metrics).prop_map(
        |(name, software, (addresses, overlays, applications), (capabilities, roster_max), metrics)| Profile {
            name,
            addresses,
            software,
            overlays,
            applications,
            capabilities,
            metrics,
            roster_max,
        },
    )
}

pub(crate) fn any_rejected() -> impl Strategy<Value = Rejected> {
    (select(&REJECTIONS[..]), any_text()).prop_map(|(code, detail)| Rejected { code, detail })
}

fn any_hello() -> impl Strategy<Value = Hello> {
    (any_text(), any::<[u64; 4]>(), option::of(any_profile()), option::of(any_member())).prop_map(
        |(software, [epoch, capabilities, wall_ms, attach], profile, member)| Hello {
            software,
            epoch,
            capabilities,
            wall_ms,
            attach,
            profile,
            member,
        },
    )
}

fn any_hello_ack() -> impl Strategy<Value = HelloAck> {
    let verdict = option::of(any_rejected()).prop_map(|r| r.map_or(Ok(()), Err));
    let terms = any::<[u64; 3]>().prop_map(|[pace_ms, gone_after_ms, applied_batch]| Terms {
        pace_ms,
        gone_after_ms,
        applied_batch,
    });
    let parts = (option::of(any_address()), verdict, option::of(terms), option::of(any_member()));
    (any_text(), any::<[u64; 3]>(), parts).prop_map(
        |(software, [epoch, capabilities, wall_ms], (observed, verdict, terms, member))| HelloAck {
            software,
            epoch,
            capabilities,
            wall_ms,
            observed,
            verdict,
            terms,
            member,
        },
    )
}

pub(crate) fn any_presence() -> impl Strategy<Value = Presence> {
    (any_status(), option::of("[ -~ü]{1,16}"), any::<[u64; 2]>())
        .prop_map(|(status, note, [since_ms, version])| Presence { status, note, since_ms, version })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let order = any::<[u64; 3]>().prop_map(|[epoch, attach, version]| Order { epoch, attach, version });
    let liveness = select(&Liveness::ALL[..]);
    (any_peer(), order, any_profile(), any_presence(), liveness, any::<u64>(), option::of(any_address())).prop_map(
        |(peer, order, profile, presence, liveness, age_ms, observed)| Entry {
            peer,
            order,
            profile,
            presence,
            liveness,
            age_ms,
            observed,
        },
    )
}

fn any_news() -> impl Strategy<Value = News> {
    let order = any::<[u64; 3]>().prop_map(|[epoch, attach, version]| Order { epoch, attach, version });
    let liveness = option::of(select(&Liveness::ALL[..]));
    (any_peer(), order, option::of(any_presence()), liveness, any::<u64>())
        .prop_map(|(peer, order, presence, liveness, age_ms)| News { peer, order, presence, liveness, age_ms })
}

fn any_subscribe_ack() -> impl Strategy<Value = SubscribeAck> {
    prop_oneof![option::of(any_news()).prop_map(Ok), any_rejected().prop_map(Err)].prop_map(SubscribeAck)
}

pub(crate) fn any_kind() -> impl Strategy<Value = Kind> {
    let other = "[a-z0-9._-]{1,9}".prop_map(|name| Kind::parse(&name).expect("the name of a kind"));
    prop_oneof![select(&Kind::BUILT_IN[..]), other]
}

pub(crate) fn any_ledger() -> impl Strategy<Value = Ledger> {
    std::array::from_fn::<_, 7, _>(|_| 0..1_u64 << 40).prop_map(
        |[good, aborted, failed, unknown, in_flight, late, duplicate]| {
            let opened = good + aborted + failed + unknown + in_flight;
            Ledger { opened, good, aborted, failed, unknown, in_flight, late, duplicate }
        },
    )
}

fn any_view() -> impl Strategy<Value = View> {
    let liveness = option::of(select(&Liveness::ALL[..]));
    (any_peer(), liveness, option::of(any_status()), any::<u32>(), any::<[bool; 3]>()).prop_map(
        |(peer, liveness, status, missed, [hears, heard, dropped])| View {
            peer,
            liveness,
            status,
            missed,
            hears,
            heard,
            dropped,
        },
    )
}

pub(crate) fn any_end() -> impl Strategy<Value = (Outcome, Option<Reason>)> {
    prop_oneof![
        select(&Outcome::ALL[..]).prop_map(|outcome| (outcome, None)),
        select(&Reason::ALL[..]).prop_map(|reason| (reason.outcome(), Some(reason))),
    ]
}

/// Each of these stages, or not.
pub(crate) fn any_stages(of: &'static [Stage]) -> impl Strategy<Value = Stages> {
    vec(option::of(any::<u64>()), of.len()).prop_map(move |measured| {
        let mut stages = Stages::default();
        for (stage, ns) in of.iter().zip(measured) {
            ns.into_iter().for_each(|ns| stages.set(*stage, ns));
        }
        stages
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let correlator =
        prop_oneof![any_short(), any::<([u8; 16], [u8; 8])>().prop_map(|(trace, span)| Correlator { trace, span }),];
    let times = (any::<u64>(), option::of(any::<u64>()), option::of(any::<u64>()));
    (any_kind(), any::<[u8; 16]>(), correlator, any_end(), any_stages(&Stage::ALL), option::of(any_status()), times)
        .prop_map(
            |(
                kind,
                target,
                correlator,
                (outcome, reason),
                stages,
                target_status,
                (opened_ms, total_ns, path_rtt_ns),
            )| {
                Record {
                    kind,
                    target: Uuid::from_bytes(target),
                    correlator,
                    outcome,
                    reason,
                    opened_ms,
                    total_ns,
                    stages,
                    target_status,
                    path_rtt_ns,
                }
            },
        )
}

fn any_report() -> impl Strategy<Value = Report> {
    let totals = vec((any_kind(), any_ledger()), 0..3);
    let lists = (totals, vec(any_presence(), 0..=CHANGES_MAX), vec(any_view(), 0..4), vec(any_record(), 0..8));
    (1..u64::MAX, lists, any::<u64>()).prop_map(|(batch, (totals, changes, views, records), shed)| Report {
        batch,
        totals,
        changes,
        views,
        records,
        shed,
    })
}

fn any_rostered() -> impl Strategy<Value = Rostered> {
    (any_peer(), any_text(), vec(any_address(), 0..3)).prop_map(|(peer, name, addresses)| Rostered {
        peer,
        name,
        addresses,
    })
}

pub(crate) fn any_role() -> impl Strategy<Value = Role> {
    select(&[Role::Agent, Role::Server][..])
}

fn any_join() -> impl Strategy<Value = Join> {
    let bytes = || vec(any::<u8>(), 1..64);
    ("[a-z0-9]{1,16}", bytes(), any::<[u8; 16]>(), bytes(), any_role(), any_text(), any::<u64>()).prop_map(
        |(token_id, secret, id, csr, role, name, wall_ms)| Join {
            token_id,
            secret,
            id: Uuid::from_bytes(id),
            csr,
            role,
            name,
            wall_ms,
        },
    )
}
