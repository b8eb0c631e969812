//! Unit and property tests of the frames: round trips, and bytes that are none.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::candidate::RawCandidate;
use crate::device::{Device, Place};
use crate::event::{Noted, Role};
use crate::ids::{Attempt, Epoch, TrialId, WeightsId};
use crate::messages::{Job, RawStart, Task};
use crate::objective::{Metrics, Score};
use crate::trial::Limit;
use crate::worker::process::protocol::{End, Failure, FromWorker, ToWorker, Welcome};

fn weights() -> impl Strategy<Value = WeightsId> {
    any::<u64>().prop_map(|seed| WeightsId::of(&seed.to_le_bytes()))
}

fn all_metrics() -> impl Strategy<Value = Metrics> {
    let score = any::<f64>().prop_filter_map("finite", Score::new);
    proptest::collection::btree_map(".{0,8}", score, 0..4)
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Interrupted),
        ".*".prop_map(Failure::OutOfMemory),
        ".*".prop_map(Failure::NotFinite),
        (".*", prop_oneof![Just(Limit::Upper), Just(Limit::Lower)])
            .prop_map(|(why, limit)| Failure::Infeasible { why, limit }),
        ".*".prop_map(Failure::Data),
        ".*".prop_map(Failure::NoRoom),
        ".*".prop_map(Failure::WeightsLost),
        ".*".prop_map(Failure::Other),
    ]
}

fn facts() -> impl Strategy<Value = Noted> {
    let value = prop_oneof![any::<i64>().prop_map(Into::into), ".*".prop_map(Into::<serde_json::Value>::into)];
    proptest::collection::btree_map(".*", value, 0..4).prop_map(Noted)
}

fn from_worker() -> impl Strategy<Value = FromWorker> {
    let end = prop_oneof![
        (weights(), all_metrics()).prop_map(|(weights, metrics)| End::Trained { weights, metrics }),
        all_metrics().prop_map(End::Evaluated),
        failure().prop_map(End::Failed),
        ".*".prop_map(End::Panicked),
    ];
    prop_oneof![
        ".*".prop_map(|engine| FromWorker::Hello { engine }),
        Just(FromWorker::Ready),
        failure().prop_map(FromWorker::NotStarted),
        any::<u64>().prop_map(|steps| FromWorker::Beat { steps }),
        (any::<u32>(), all_metrics(), proptest::option::of(weights())).prop_map(|(epoch, metrics, checkpoint)| {
            FromWorker::Report { epoch: Epoch(epoch), metrics, checkpoint }
        }),
        facts().prop_map(FromWorker::Note),
        weights().prop_map(|id| FromWorker::Hold { id }),
        (weights(), any::<u64>()).prop_map(|(id, bytes)| FromWorker::Stored { id, bytes }),
        weights().prop_map(|id| FromWorker::Unreadable { id }),
        (end, any::<bool>()).prop_map(|(end, leaving)| FromWorker::End { end, leaving }),
    ]
}

fn candidate() -> impl Strategy<Value = RawCandidate> {
    proptest::collection::vec(".*", 0..4).prop_map(|parts| RawCandidate::of(&parts).unwrap())
}

fn to_worker() -> impl Strategy<Value = ToWorker> {
    let start = prop_oneof![
        Just(RawStart::Fresh),
        (any::<u64>(), candidate(), weights()).prop_map(|(parent, candidate, weights)| RawStart::Inherit {
            parent: TrialId(parent),
            candidate,
            weights
        }),
        (any::<u32>(), weights()).prop_map(|(epoch, checkpoint)| RawStart::Resume { epoch: Epoch(epoch), checkpoint }),
    ];
    let task = prop_oneof![
        (start, any::<u32>(), any::<u32>(), any::<u64>()).prop_map(|(start, epochs, micro_batches, seed)| {
            Task::Train { start, epochs: Epoch(epochs), micro_batches, seed }
        }),
        (weights(), 1u32..64, any::<bool>()).prop_map(|(weights, micro_batches, alone)| Task::Evaluate {
            weights,
            micro_batches,
            alone
        }),
    ];
    let job = (any::<u64>(), any::<u32>(), candidate(), task).prop_map(|(trial, attempt, candidate, task)| {
        ToWorker::Job(Box::new(Job { trial: TrialId(trial), attempt: Attempt(attempt), candidate, task }))
    });
    let welcome =
        (any::<u32>(), any::<usize>(), "[a-z/]*", any::<u64>()).prop_map(|(index, threads, folder, bytes)| {
            ToWorker::Welcome(Welcome {
                role: Role::Train,
                device: Device::new(Place::Cpu { index }, threads),
                weights: folder.into(),
                cache_bytes: bytes,
            })
        });
    prop_oneof![
        welcome,
        job,
        any::<bool>().prop_map(|goes_on| ToWorker::Verdict { goes_on }),
        any::<bool>().prop_map(|stored| ToWorker::Held { stored }),
        Just(ToWorker::Interrupt),
        Just(ToWorker::Leave),
    ]
}

/// Feeds the bytes in pieces of these lengths, over and over; all messages that come out.
fn decoded<M: DeserializeOwned>(bytes: &[u8], pieces: &[usize]) -> Result<Vec<M>, FrameError> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    let (mut rest, mut lengths) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() {
        let length = lengths.next().map_or(1, |length| (*length).clamp(1, rest.len()));
        let (piece, after) = rest.split_at(length);
        decoder.feed(piece);
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
        rest = after;
    }
    Ok(messages)
}

proptest! {
    #[test]
    fn what_a_worker_says_is_heard_as_it_was_said(
        messages in proptest::collection::vec(from_worker(), 1..5),
        pieces in proptest::collection::vec(1_usize..200, 1..5),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        prop_assert_eq!(decoded::<FromWorker>(&bytes, &pieces).unwrap(), messages);
    }

    #[test]
    fn what_a_search_says_is_heard_as_it_was_said(message in to_worker(), piece in 1_usize..300) {
        let heard = decoded::<ToWorker>(&encode(&message).unwrap(), &[piece]).unwrap();
        // Jobs have no equality: their texts have.
        prop_assert_eq!(format!("{heard:?}"), format!("[{message:?}]"));
    }

    #[test]
    fn a_byte_that_was_changed_is_found(message in from_worker(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
        let mut bytes = encode(&message).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // A length that has grown waits for bytes that do not come; the two bytes that mean nothing may be anything.
        match decoded::<FromWorker>(&bytes, &[bytes.len()]) {
            Ok(heard) => prop_assert!(heard.is_empty() && (8..12).contains(&at) || heard == [message] && (6..8).contains(&at)),
            Err(_) => prop_assert!(!(6..8).contains(&at)),
        }
    }

    #[test]
    fn soup_is_an_error_or_too_short_to_tell_and_takes_no_more_memory_than_it_has_bytes(
        soup in proptest::collection::vec(any::<u8>(), 1..4096),
        well_begun in any::<bool>(),
    ) {
        let mut bytes = soup;
        if well_begun {
            bytes.splice(0..0, [MAGIC.as_slice(), &VERSION.to_le_bytes(), &[0, 0]].concat());
        }
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        let heard = decoder.next::<FromWorker>();
        prop_assert!(!matches!(heard, Ok(Some(_))));
        prop_assert!(decoder.held() <= bytes.len().next_power_of_two().max(64));
        prop_assert_eq!(fuzz_frames(&bytes), 0);
    }
}

#[test]
fn another_version_and_another_protocol_are_refused_by_name() {
    let mut bytes = encode(&FromWorker::Ready).unwrap();
    bytes[4] = 7;
    let error = decoded::<FromWorker>(&bytes, &[64]).unwrap_err().to_string();
    assert!(error.contains("version 7") && error.contains("speaks 1"), "{error}");
    // Seen at the first bytes, not when a whole header has come.
    let error = decoded::<FromWorker>(b"HT", &[64]).unwrap_err();
    assert!(matches!(error, FrameError::Magic { .. }), "{error}");
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
    for (length, refused) in [(MAX_PAYLOAD as u32, false), (MAX_PAYLOAD as u32 + 1, true), (u32::MAX, true)] {
        let mut bytes = encode(&FromWorker::Ready).unwrap()[..HEADER].to_vec();
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        assert_eq!(decoder.next::<FromWorker>().is_err(), refused);
        assert!(decoder.held() <= HEADER, "nothing is set aside for what is only announced");
    }
    let long: BTreeMap<String, serde_json::Value> = [("x".to_owned(), "y".repeat(MAX_PAYLOAD).into())].into();
    assert!(matches!(encode(&FromWorker::Note(Noted(long))), Err(FrameError::TooLong { .. })));
}

#[test]
fn what_nests_too_deep_is_refused() {
    let deep = format!("{{\"Note\":{{\"x\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    let payload = deep.as_bytes();
    let mut bytes = encode(&FromWorker::Ready).unwrap()[..HEADER].to_vec();
    bytes[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes[12..16].copy_from_slice(&checksum(payload));
    bytes.extend_from_slice(payload);
    assert!(matches!(decoded::<FromWorker>(&bytes, &[bytes.len()]), Err(FrameError::Payload(_))));
}

/// The layout is fixed: another build must at least understand that it does not understand.
#[test]
fn a_frame_is_laid_out_as_documented() {
    let frame = encode(&FromWorker::Beat { steps: 5 }).unwrap();
    let payload = br#"{"Beat":{"steps":5}}"#;
    assert_eq!(frame[..12], *b"SPNW\x01\0\0\0\x14\0\0\0");
    assert_eq!(frame[12..16], blake3::hash(payload).as_bytes()[..4]);
    assert_eq!(frame[16..], *payload);
}
