//! The journal's thread: groups, order, errors and its end.

use proptest::prelude::*;

use crate::journal::store::tests::{entry, meta};
use crate::journal::{JournalSync, Row};

use super::*;

fn in_memory() -> JournalStore {
    JournalStore::in_memory(&meta())
}

fn noted(number: u64) -> Arc<Transition> {
    let facts = [("number".to_owned(), number.into())].into();
    let event = crate::event::Event::Noted(crate::event::Noted(facts));
    Arc::new(Transition { at_ms: number, trial: crate::ids::TrialId(number), event })
}

fn numbers(store: &JournalStore) -> Vec<u64> {
    store.read_all().map(|row: Result<Row, _>| row.unwrap().entry.at_ms).collect()
}

fn hand_over(writer: &JournalWriter, numbers: impl IntoIterator<Item = u64>) -> Ack {
    writer.try_append(numbers.into_iter().map(noted).collect(), Urgency::Awaited).unwrap()
}

#[tokio::test]
async fn appends_are_numbered_in_the_order_they_were_handed_over() {
    let writer = JournalWriter::start(in_memory(), 64).unwrap();
    let acks: Vec<Ack> = (0..40).map(|append| hand_over(&writer, [append * 2, append * 2 + 1])).collect();
    for (ack, expected) in acks.into_iter().zip(1..) {
        assert_eq!(ack.await.unwrap().unwrap(), expected * 2);
    }
    assert_eq!(numbers(&writer.close().unwrap()), (0..80).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_gives_back_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    // The thread cannot go on with what it has taken.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writer = JournalWriter::start(store, 2).unwrap();
    let mut acks = Vec::new();
    let refused = loop {
        let number = acks.len() as u64 + 1;
        match writer.try_append(vec![noted(number)], Urgency::Awaited) {
            Ok(ack) => acks.push(ack),
            Err(refused) => break refused,
        }
    };
    let taken = acks.len() as u64;
    assert_eq!(refused, [noted(taken + 1)]);
    assert!((2..=LARGEST_COMMIT as u64 + 2).contains(&taken), "{taken}");
    other.execute_batch("ROLLBACK").unwrap();
    for (ack, number) in acks.into_iter().zip(1..) {
        assert_eq!(ack.blocking_recv().unwrap().unwrap(), number);
    }
    assert_eq!(numbers(&writer.close().unwrap()), (1..=taken).collect::<Vec<_>>());
}

#[tokio::test]
async fn closing_writes_what_waits_and_so_does_dropping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    let writer = JournalWriter::start(store, 64).unwrap();
    for number in 0..50 {
        // Nobody waits for the acknowledgement.
        drop(hand_over(&writer, [number]));
    }
    assert_eq!(writer.close().unwrap().last_seq(), 50);
    let writer = JournalWriter::start(JournalStore::open(&path, JournalSync::Full).unwrap(), 64).unwrap();
    drop(hand_over(&writer, [50]));
    drop(writer);
    assert_eq!(numbers(&JournalStore::open(&path, JournalSync::Full).unwrap()), (0..51).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_a_failed_append_nothing_more_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    store.limit_pages(12);
    let writer = JournalWriter::start(store, 64).unwrap();
    assert_eq!(hand_over(&writer, [1]).await.unwrap().unwrap(), 1);
    let too_much = hand_over(&writer, 0..2000).await.unwrap();
    assert!(matches!(too_much, Err(JournalError::Full { .. })), "{too_much:?}");
    let after = hand_over(&writer, [2]).await.unwrap().unwrap_err();
    assert!(matches!(&after, JournalError::Stopped { why } if why.contains("no space left")), "{after}");
    assert!(matches!(writer.close(), Err(JournalError::Stopped { .. })));
    assert_eq!(numbers(&JournalStore::open(&path, JournalSync::Full).unwrap()), [1]);
}

/// What may happen to a journal: the crash leaves the files as they are at that moment.
#[derive(Debug, Clone)]
enum Action {
    Append(usize),
    AppendBadly,
    Crash,
    Close,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..5_usize).prop_map(Action::Append),
        1 => Just(Action::AppendBadly),
        2 => Just(Action::Crash),
        1 => Just(Action::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A crash is played by copying the files while they are open, as a killed process leaves them.
    #[test]
    fn whatever_was_acknowledged_is_there_after_any_crashes(actions in prop::collection::vec(action(), 0..20)) {
        let root = tempfile::tempdir().unwrap();
        let mut folder = root.path().join("0");
        std::fs::create_dir(&folder).unwrap();
        let mut store = JournalStore::create(&folder.join("j"), &meta(), JournalSync::Full).unwrap();
        let mut model: Vec<Entry> = Vec::new();
        for (step, action) in actions.into_iter().enumerate() {
            match action {
                Action::Append(count) => {
                    let entries: Vec<Entry> = (0..count).map(|index| entry((step * 10 + index) as u64)).collect();
                    model.extend(entries.clone());
                    prop_assert_eq!(store.append(&entries).unwrap(), model.len() as u64);
                }
                Action::AppendBadly => {
                    let bad = Entry { body: String::new(), ..entry(0) };
                    prop_assert!(store.append(&[entry(0), bad]).is_err());
                }
                Action::Crash => {
                    let copy = root.path().join((step + 1).to_string());
                    std::fs::create_dir(&copy).unwrap();
                    for file in std::fs::read_dir(&folder).unwrap() {
                        let file = file.unwrap();
                        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
                    }
                    drop(store);
                    folder = copy;
                    store = JournalStore::open(&folder.join("j"), JournalSync::Full).unwrap();
                }
                Action::Close => {
                    store = JournalWriter::start(store, 1).unwrap().close().unwrap();
                }
            }
            let rows: Vec<Entry> = store.read_all().map(|row| row.unwrap().entry).collect();
            prop_assert_eq!(&rows, &model);
        }
    }
}

/// What may happen to a writer. Transitions are handed over as the engine does it.
#[derive(Debug, Clone)]
enum Deed {
    HandOver(usize, Urgency),
    /// Waits for all that was handed over.
    Wait,
    Crash,
}

fn deed() -> impl Strategy<Value = Deed> {
    let urgency = prop_oneof![Just(Urgency::Awaited), Just(Urgency::Leisurely)];
    prop_oneof![
        6 => (1..4_usize, urgency).prop_map(|(count, urgency)| Deed::HandOver(count, urgency)),
        1 => Just(Deed::Wait),
        2 => Just(Deed::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A crash is played by copying the files while the writer is at work. What is then there is a prefix of what was
    /// handed over, in whole appends, with all that was acknowledged; the next life goes on from it.
    #[test]
    fn a_crash_between_any_two_deeds_leaves_a_prefix_with_all_that_was_acknowledged(
        deeds in prop::collection::vec(deed(), 0..24),
    ) {
        let root = tempfile::tempdir().unwrap();
        let mut folder = root.path().join("0");
        std::fs::create_dir(&folder).unwrap();
        let store = JournalStore::create(&folder.join("j"), &meta(), JournalSync::Full).unwrap();
        let mut writer = JournalWriter::start(store, 64).unwrap();
        // How many rows there are after each append that was handed over, and the acknowledgements to come.
        let mut appends: Vec<u64> = vec![0];
        let mut acks: Vec<Ack> = Vec::new();
        let mut acknowledged = 0;
        for (step, deed) in deeds.into_iter().enumerate() {
            match deed {
                Deed::HandOver(count, urgency) => {
                    let from = appends[appends.len() - 1];
                    let transitions = (1..=count as u64).map(|number| noted(from + number)).collect();
                    acks.push(writer.try_append(transitions, urgency).unwrap());
                    appends.push(from + count as u64);
                }
                Deed::Wait => {
                    writer.hurry();
                    for ack in acks.drain(..) {
                        acknowledged = ack.blocking_recv().unwrap().unwrap();
                    }
                    prop_assert_eq!(acknowledged, appends[appends.len() - 1]);
                }
                Deed::Crash => {
                    for ack in &mut acks {
                        if let Ok(last) = ack.try_recv() {
                            acknowledged = last.unwrap();
                        }
                    }
                    acks.clear();
                    let copy = root.path().join((step + 1).to_string());
                    std::fs::create_dir(&copy).unwrap();
                    // The log last: what moves from it to the file meanwhile is then in both.
                    for name in ["j", "j-wal"] {
                        if folder.join(name).exists() {
                            std::fs::copy(folder.join(name), copy.join(name)).unwrap();
                        }
                    }
                    folder = copy;
                    let store = JournalStore::open(&folder.join("j"), JournalSync::Full).unwrap();
                    let last = store.last_seq();
                    prop_assert!(appends.contains(&last), "{} is in mid-append of {:?}", last, appends);
                    prop_assert!(last >= acknowledged, "{} of {} acknowledged", last, acknowledged);
                    for (number, row) in (1..).zip(store.read_all()) {
                        prop_assert_eq!(row.unwrap().entry.at_ms, number);
                    }
                    acknowledged = last;
                    appends.retain(|rows| *rows <= last);
                    writer = JournalWriter::start(store, 64).unwrap();
                }
            }
        }
    }
}
