//! The wire against strangers: whatever is within bounds comes back as it went, whatever is not is refused with its
//! field, and no bytes make a reader panic.

mod any;
mod any_sibling;
mod bounds;
mod siblings;

use pams_shared::{
    frame::{
        CHANGES_MAX, DATAGRAM_BYTES_MAX, Frame, FrameError, KINDS_MAX, Ping, Pong, RECORDS_MAX, Report,
        STREAM_BYTES_MAX, VIEWS_MAX, View, wire,
    },
    id::{Correlator, PeerId},
    record::{KIND_BYTES_MAX, Kind, Ledger, Outcome, Reason, Record, Stage, Stages},
    status::{Liveness, NOTE_BYTES_MAX, Presence, Status},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use uuid::Uuid;

use any::any_frame;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_comes_back_as_it_went(frame in any_frame()) {
        let bytes = wire::encode(&frame);
        prop_assert_eq!(read(&bytes), Ok(frame.clone()));
        let mut behind = vec![7];
        wire::encode_into(&frame, &mut behind);
        prop_assert_eq!(&behind[1..], &bytes);
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused(frame in any_frame()) {
        let bytes = wire::encode(&frame);
        // Every length of a short frame, some of a long one.
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 256) {
            prop_assert!(read(&bytes[..end]).is_err(), "{} of {} bytes", end, bytes.len());
        }
    }

    #[test]
    fn a_mutated_frame_is_refused_or_is_a_valid_one(
        frame in any_frame(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = wire::encode(&frame);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        check_whatever(&bytes)?;
    }

    #[test]
    fn random_bytes_are_refused_or_are_a_valid_frame(tag in 0_u32..50, body in vec(any::<u8>(), 0..200)) {
        check_whatever(&body)?;
        check_whatever(&field(tag, &body))?;
    }

    #[test]
    fn fields_of_a_newer_version_are_skipped(frame in any_frame()) {
        let bytes = wire::encode(&frame);
        let newer = field(1_000, b"new");
        let beside = [bytes.as_slice(), &newer].concat();
        prop_assert_eq!(read(&beside), Ok(frame.clone()));
        let before = [newer.as_slice(), &bytes].concat();
        prop_assert_eq!(read(&before), Ok(frame.clone()));
        let (tag, body) = split(&bytes);
        let within = field(tag, &[body.as_slice(), &newer].concat());
        prop_assert_eq!(read(&within), Ok(frame));
    }
}

#[test]
fn a_frame_over_the_bound_is_refused_before_it_is_looked_at() {
    let rubbish = vec![0xff; DATAGRAM_BYTES_MAX + 1];
    let error = wire::decode(&rubbish, DATAGRAM_BYTES_MAX).unwrap_err();
    assert_eq!(error, FrameError::Oversized { bytes: 1_151, max: DATAGRAM_BYTES_MAX });
    assert_eq!(read(&rubbish).unwrap_err().label(), "malformed");
}

#[test]
fn a_kind_of_a_newer_version_is_told_by_its_tag() {
    for tag in [13, 15, 27, 39, 48, 79, 1_000, (1 << 29) - 1] {
        assert_eq!(read(&field(tag, b"whatever")), Err(FrameError::UnknownKind { tag }));
    }
    assert_eq!(read(&[0x80, 0x03, 0x07]), Err(FrameError::UnknownKind { tag: 48 }), "a number is a kind too");
}

#[test]
fn a_frame_has_one_body() {
    let ping = wire::encode(&Frame::Ping(Ping { correlator: Correlator::of_uuid([1; 16]) }));
    let twice = [ping.as_slice(), &wire::encode(&Frame::Goodbye)].concat();
    assert_eq!(read(&twice), Err(FrameError::Invalid { field: "frame.body", problem: "given twice" }));
    assert_eq!(read(&[]), Err(FrameError::Invalid { field: "frame.body", problem: "missing" }));
    assert_eq!(read(&[0x08, 0x01]).unwrap_err().label(), "malformed", "a ping is no number");
}

#[test]
fn a_ping_takes_20_bytes_and_a_pong_at_most_30() {
    let correlator = Correlator::of_uuid([0xff; 16]);
    assert_eq!(wire::encode(&Frame::Ping(Ping { correlator })).len(), 20);
    let pong = Pong { correlator, status: Status::Offline, hold_ns: Some(2_000_000), version: 1_000 };
    assert_eq!(wire::encode(&Frame::Pong(pong)).len(), 29);
    let longest = Pong { hold_ns: Some(u64::MAX), version: u64::MAX, ..pong };
    assert_eq!(wire::encode(&Frame::Pong(longest)).len(), 44);
}

#[test]
fn a_report_with_everything_at_its_bound_fits_a_frame() {
    let kinds: Vec<Kind> = (0..KINDS_MAX).map(|n| Kind::parse(&format!("{n:x>KIND_BYTES_MAX$}")).unwrap()).collect();
    let most = 1 << 44;
    let ledger = Ledger { opened: most, good: most, late: most, duplicate: most, ..Ledger::default() };
    let mut stages = Stages::default();
    Stage::ALL.into_iter().for_each(|stage| stages.set(stage, u64::MAX));
    let record = |n: usize| Record {
        kind: kinds[n % KINDS_MAX].clone(),
        target: Uuid::max(),
        correlator: Correlator { trace: [0xff; 16], span: [0xfe; 8] },
        outcome: Outcome::Unknown,
        reason: Some(Reason::Crash),
        opened_ms: u64::MAX,
        total_ns: Some(u64::MAX),
        stages,
        target_status: Some(Status::Offline),
        path_rtt_ns: Some(u64::MAX),
    };
    let note = Some("x".repeat(NOTE_BYTES_MAX));
    let change = Presence { status: Status::Offline, note, since_ms: u64::MAX, version: u64::MAX };
    let view = View {
        peer: PeerId(Uuid::max()),
        liveness: Some(Liveness::Left),
        status: Some(Status::Offline),
        missed: u32::MAX,
        hears: true,
        heard: true,
        dropped: true,
    };
    let report = Frame::Report(Report {
        batch: u64::MAX,
        totals: kinds.iter().map(|k| (k.clone(), ledger)).collect(),
        changes: vec![change; CHANGES_MAX],
        views: vec![view; VIEWS_MAX],
        records: (0..RECORDS_MAX).map(record).collect(),
        shed: u64::MAX,
    });
    let bytes = wire::encode(&report);
    assert!(bytes.len() <= STREAM_BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(read(&bytes), Ok(report));
}

#[test]
fn an_ordinary_record_takes_less_than_90_bytes() {
    let ms = |n: u64| n * 1_000_000;
    let mut stages = Stages::default();
    for (stage, ns) in Stage::EXCHANGE.into_iter().zip([ms(1) / 5, ms(84), ms(1), ms(1) / 10]) {
        stages.set(stage, ns);
    }
    let record = Record {
        kind: Kind::Ping,
        target: Uuid::max(),
        correlator: Correlator::of_uuid([1; 16]),
        outcome: Outcome::Good,
        reason: None,
        opened_ms: 1_700_000_000_000,
        total_ns: Some(ms(85)),
        stages,
        target_status: Some(Status::Online),
        path_rtt_ns: Some(ms(84)),
    };
    let report = Report { batch: 1, records: vec![record; RECORDS_MAX], ..Report::default() };
    let average = wire::encode(&Frame::Report(report)).len() / RECORDS_MAX;
    println!("{average} bytes a record");
    assert!(average < 90, "{average} bytes a record");
}

fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
    wire::decode(bytes, STREAM_BYTES_MAX)
}

fn invalid(field: &'static str, problem: &'static str) -> FrameError {
    FrameError::Invalid { field, problem }
}

/// A field of a message: its tag, its length, its bytes.
fn field(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for n in [u64::from(tag) << 3 | 2, bytes.len() as u64] {
        prost::encode_length_delimiter(n as usize, &mut out).expect("a vector grows");
    }
    out.extend_from_slice(bytes);
    out
}

/// A frame's tag and body.
fn split(mut frame: &[u8]) -> (u32, Vec<u8>) {
    let key = prost::decode_length_delimiter(&mut frame).expect("a key");
    let length = prost::decode_length_delimiter(&mut frame).expect("a length");
    assert_eq!(length, frame.len());
    ((key >> 3) as u32, frame.to_vec())
}

/// Bytes of anybody: if they are a frame at all, it is one that we could have sent ourselves.
fn check_whatever(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(frame) = read(bytes) {
        prop_assert_eq!(read(&wire::encode(&frame)), Ok(frame));
    }
    Ok(())
}
