//! The journal's file: what is written comes back, and what is damaged is refused by name.

use std::borrow::Cow;
use std::fs;

use crate::ids::TrialId;
use crate::journal::{JournalReader, JournalWriter};
use crate::objective::Objective;

use super::*;

pub(in crate::journal) fn meta() -> JournalMeta {
    JournalMeta {
        created_by: "spnas 0.1.0".to_owned(),
        seed: u64::MAX,
        config_hash: "ab12".to_owned(),
        objectives: vec![Objective::maximise("mAP"), Objective::minimise("params")],
    }
}

pub(in crate::journal) fn entry(number: u64) -> Entry {
    Entry {
        at_ms: number * 10,
        trial: (!number.is_multiple_of(5)).then_some(TrialId(number)),
        kind: Cow::Borrowed("noted"),
        body: format!(r#"{{"number":{number},"text":"zwölf \"Boxkämpfer\"\n"}}"#),
    }
}

fn rows(store: &JournalStore) -> Vec<Row> {
    store.read_all().collect::<Result<_, _>>().unwrap()
}

#[test]
fn what_was_appended_reads_back_in_order_and_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    // More than a page, in transactions of several sizes.
    let entries: Vec<Entry> = (1..=2500).map(entry).collect();
    assert_eq!(store.append(&entries[..1]).unwrap(), 1);
    assert_eq!(store.append(&[]).unwrap(), 1);
    assert_eq!(store.append(&entries[1..]).unwrap(), 2500);
    let expected: Vec<Row> = (1..).zip(entries).map(|(seq, entry)| Row { seq, entry }).collect();
    assert_eq!(rows(&store), expected);
    drop(store);
    let store = JournalStore::open(&path, JournalSync::Full).unwrap();
    assert_eq!((store.last_seq(), store.meta()), (2500, &meta()));
    assert_eq!(rows(&store), expected);
}

#[test]
fn a_file_and_a_journal_in_memory_export_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = JournalStore::create(&folder.path().join("j"), &meta(), JournalSync::Full).unwrap();
    let exports = [file, JournalStore::in_memory(&meta())].map(|mut store| {
        store.append(&(1..=3).map(entry).collect::<Vec<_>>()).unwrap();
        store
            .append(&[Entry { at_ms: 7, trial: None, kind: "noted".into(), body: "{\n \"a\": 1\n}\n".to_owned() }])
            .unwrap();
        let mut lines = Vec::new();
        store.to_jsonl(&mut lines).unwrap();
        String::from_utf8(lines).unwrap()
    });
    assert_eq!(exports[0], exports[1]);
    let last = exports[0].lines().last().unwrap();
    assert_eq!(last, r#"{"seq":4,"at_ms":7,"trial":null,"kind":"noted","body":{  "a": 1 }}"#);
    for line in exports[0].lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn the_second_driver_is_refused_with_the_first_ones_process_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let first = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    for refused in
        [JournalStore::open(&path, JournalSync::Full), JournalStore::create(&path, &meta(), JournalSync::Full)]
    {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(&format!("in use by process {}", std::process::id())), "{message}");
    }
    assert!(JournalReader::open(&path).is_ok(), "looking on is allowed");
    drop(first);
    assert!(JournalStore::open(&path, JournalSync::Full).is_ok());
}

#[test]
fn a_reader_sees_what_is_appended_while_it_looks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    let reader = JournalReader::open(&path).unwrap();
    assert_eq!(reader.read_all().count(), 0);
    store.append(&[entry(1), entry(2)]).unwrap();
    assert_eq!(reader.read_all().map(|row| row.unwrap().seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(reader.meta(), store.meta());
}

#[test]
fn who_looks_while_a_journal_is_made_finds_none_or_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..150 {
        let path = folder.path().join(number.to_string());
        let is_made = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_made.load(std::sync::atomic::Ordering::Relaxed) {
                        match JournalReader::open(&path) {
                            Ok(reader) => assert_eq!(reader.read_all().count(), 0),
                            Err(JournalError::Absent { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
            is_made.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

#[test]
fn a_journal_is_made_once_and_opened_only_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    assert!(matches!(JournalStore::open(&path, JournalSync::Full), Err(JournalError::Absent { .. })));
    assert!(matches!(JournalReader::open(&path), Err(JournalError::Absent { .. })));
    assert!(!path.exists(), "looking for a journal does not make one");
    // What a process leaves that is killed before the first transaction.
    fs::write(&path, b"").unwrap();
    assert!(matches!(JournalStore::open(&path, JournalSync::Full), Err(JournalError::Absent { .. })));
    drop(JournalStore::create(&path, &meta(), JournalSync::Full).unwrap());
    let again = JournalStore::create(&path, &meta(), JournalSync::Full);
    assert!(matches!(again, Err(JournalError::Exists { .. })));
}

#[test]
fn a_file_that_is_no_journal_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs::write(&text, b"Dear diary, today nothing happened at all.").unwrap();
    let other = folder.path().join("other");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    for path in [&text, &other] {
        let before = fs::read(path).unwrap();
        assert!(matches!(JournalStore::open(path, JournalSync::Full), Err(JournalError::NotAJournal { .. })));
        assert!(matches!(
            JournalStore::create(path, &meta(), JournalSync::Full),
            Err(JournalError::NotAJournal { .. })
        ));
        assert_eq!(fs::read(path).unwrap(), before);
    }
    let later = folder.path().join("later");
    drop(JournalStore::create(&later, &meta(), JournalSync::Full).unwrap());
    Connection::open(&later).unwrap().pragma_update(None, "user_version", FORMAT + 1).unwrap();
    let refused = JournalStore::open(&later, JournalSync::Full).unwrap_err().to_string();
    assert!(refused.contains("has format 3, this version reads up to 2"), "{refused}");
}

/// The journal at `path` as format 1 has it: without the reason `infeasible`, of which its view `trials` knows nothing.
fn make_format_1(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("DROP VIEW trials; CREATE VIEW trials AS SELECT trial, kind AS outcome FROM events")
        .unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
}

#[test]
fn a_journal_of_format_1_is_read_as_it_is_and_gone_on_with_as_the_present_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    store.append(&[entry(1), entry(2)]).unwrap();
    drop(store);
    make_format_1(&path);
    let format = || -> i32 {
        Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    let reader = JournalReader::open(&path).unwrap();
    let before: Vec<Row> = reader.read_all().map(Result::unwrap).collect();
    assert_eq!((before.len(), format()), (2, 1), "a reader changes nothing");
    drop(reader);
    let mut store = JournalStore::open(&path, JournalSync::Full).unwrap();
    assert_eq!(store.meta(), &meta());
    let body = r#"{"reason":"infeasible","why":"latency is 9","limit":"upper"}"#.to_owned();
    store.append(&[Entry { trial: Some(TrialId(7)), kind: "failed".into(), body, ..entry(3) }]).unwrap();
    let rows: Vec<Row> = store.read_all().map(Result::unwrap).collect();
    assert_eq!((&rows[..2], rows.len(), format()), (&before[..], 3, FORMAT));
    drop(store);
    let outcome: String = Connection::open(&path)
        .unwrap()
        .query_row("SELECT outcome FROM trials WHERE trial = 7", (), |row| row.get(0))
        .unwrap();
    assert_eq!(outcome, "infeasible");
}

/// A journal of a few hundred pages.
fn filled(path: &Path) {
    let mut store = JournalStore::create(path, &meta(), JournalSync::Full).unwrap();
    let text = "x".repeat(300);
    let body = format!("{{\"text\":\"{text}\"}}");
    let entries: Vec<Entry> = (0..4000).map(|number| Entry { body: body.clone(), ..entry(number) }).collect();
    store.append(&entries).unwrap();
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_or_cut_off_file_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let overwritten: Damage = |bytes| bytes[40_960..45_056].fill(0xA5);
    let cut_off: Damage = |bytes| bytes.truncate(bytes.len() / 2 + 100);
    let schema_overwritten: Damage = |bytes| bytes[100..200].fill(0xFF);
    let damages: [(&str, Damage); 3] =
        [("overwritten", overwritten), ("cut off", cut_off), ("schema overwritten", schema_overwritten)];
    for (name, damage) in damages {
        let path = folder.path().join(name);
        filled(&path);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let refused = JournalStore::open(&path, JournalSync::Full).unwrap_err();
        assert!(matches!(refused, JournalError::Corrupt { .. }), "{name}: {refused:?}");
        assert!(refused.to_string().contains(".recover"), "{refused}");
    }
}

#[test]
fn a_missing_row_is_found_when_the_journal_is_opened_and_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    store.append(&(1..=5).map(entry).collect::<Vec<_>>()).unwrap();
    Connection::open(&path).unwrap().execute("DELETE FROM events WHERE seq = 3", ()).unwrap();
    let read: Vec<_> = store.read_all().collect();
    assert_eq!(read.len(), 3, "two rows and the error, then the end");
    assert!(read[2].as_ref().unwrap_err().to_string().contains("row 3 is missing before row 4"));
    drop(store);
    assert!(matches!(JournalStore::open(&path, JournalSync::Full), Err(JournalError::Corrupt { .. })));
}

#[test]
fn a_write_ahead_log_torn_at_any_length_leaves_a_prefix_of_whole_appends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let log = folder.path().join("j-wal");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    for append in 0..8 {
        store.append(&[entry(append * 2 + 1), entry(append * 2 + 2)]).unwrap();
    }
    let (file, whole_log) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    drop(store);
    let mut seen = Vec::new();
    for length in (0..=whole_log.len()).step_by(whole_log.len() / 60).chain([whole_log.len()]) {
        let torn = tempfile::tempdir().unwrap();
        let path = torn.path().join("j");
        fs::write(&path, &file).unwrap();
        fs::write(torn.path().join("j-wal"), &whole_log[..length]).unwrap();
        match JournalStore::open(&path, JournalSync::Full) {
            Ok(store) => {
                assert_eq!(rows(&store).len() % 2, 0, "an append is there whole or not at all");
                seen.push(store.last_seq());
            }
            Err(JournalError::Absent { .. }) => seen.push(0),
            Err(error) => panic!("cut at {length}: {error}"),
        }
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&16));
}

#[test]
fn an_entry_that_cannot_be_held_is_refused_and_nothing_is_appended() {
    let mut store = JournalStore::in_memory(&meta());
    let with_body = |body: &str| Entry { body: body.to_owned(), ..entry(1) };
    for bad in [with_body("[1]"), with_body("{"), with_body("{} {}"), Entry { at_ms: u64::MAX, ..entry(1) }] {
        assert!(matches!(store.append(&[entry(1), bad]), Err(JournalError::Entry { .. })));
        assert_eq!(store.last_seq(), 0);
    }
}

#[test]
fn a_full_disk_refuses_the_append_whole_and_the_journal_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    store.append(&[entry(1)]).unwrap();
    store.limit_pages(12);
    let many: Vec<Entry> = (2..2000).map(entry).collect();
    assert!(matches!(store.append(&many), Err(JournalError::Full { .. })));
    assert_eq!((store.last_seq(), rows(&store).len()), (1, 1));
    store.limit_pages(1 << 20);
    assert_eq!(store.append(&many).unwrap(), 1999);
}

#[test]
fn a_database_locked_for_too_long_refuses_the_append_by_name_and_goes_on_when_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    store.append(&[entry(1)]).unwrap();
    store.limit_wait(Duration::from_millis(1));
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.append(&[entry(2)]).unwrap_err().to_string();
    assert!(refused.contains("append to") && refused.contains("/j: database is locked"), "{refused}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.append(&[entry(2)]).unwrap(), 2);
    assert_eq!(rows(&store).len(), 2);
}

#[test]
fn an_interval_journal_is_synced_when_it_is_due_and_when_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let sync = JournalSync::Interval(Duration::from_millis(1));
    let mut store = JournalStore::create(&path, &meta(), sync).unwrap();
    assert_eq!(store.sync_due(), None);
    store.append(&[entry(1)]).unwrap();
    assert!(store.sync_due().is_some());
    store.sync().unwrap();
    assert_eq!(store.sync_due(), None);
    store.append(&[entry(2)]).unwrap();
    let store = JournalWriter::start(store, 4).unwrap().close().unwrap();
    assert_eq!(store.sync_due(), None);
}

#[test]
fn the_views_show_people_how_trials_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j");
    let mut store = JournalStore::create(&path, &meta(), JournalSync::Full).unwrap();
    let events = [
        (0, 1, "proposed", r#"{"seen":0,"key":"111-11","candidate":{},"parent":null,"origin":"sampled"}"#),
        (0, 2, "proposed", r#"{"seen":0,"key":"112-11","candidate":{},"parent":1,"origin":"swap"}"#),
        (9, 1, "reported", r#"{"attempt":1,"epoch":1,"metrics":{"mAP":0.25},"verdict":"continue"}"#),
        (10, 1, "attempt_failed", r#"{"role":"train","attempt":1,"reason":{"reason":"worker_lost"}}"#),
        (20, 1, "finished", r#"{"metrics":{"mAP":0.5}}"#),
        (30, 2, "failed", r#"{"reason":"not_finite","what":"loss"}"#),
    ];
    let entries = events.map(|(at_ms, trial, kind, body)| Entry {
        at_ms,
        trial: Some(TrialId(trial)),
        kind: kind.into(),
        body: body.to_owned(),
    });
    store.append(&entries).unwrap();
    let show = |query: &str| -> Vec<String> {
        let database = Connection::open(&path).unwrap();
        let mut statement = database.prepare(query).unwrap();
        statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(
        show(
            "SELECT concat_ws(' ', trial, candidate, parent, origin, proposed_ms, ended_ms, outcome, epochs) FROM trials"
        ),
        ["1 111-11 sampled 0 20 finished 1", "2 112-11 1 swap 0 30 failed"]
    );
    assert_eq!(show("SELECT metrics ->> '$.mAP' || ' ' || trial FROM finished"), ["0.5 1"]);
    assert_eq!(
        show("SELECT trial || ' ' || epoch || ' ' || verdict || ' ' || metrics FROM reports"),
        [r#"1 1 continue {"mAP":0.25}"#]
    );
    assert_eq!(
        show("SELECT trial || ' ' || coalesce(attempt, '-') || ' ' || (reason ->> '$.reason') FROM failures"),
        ["1 1 worker_lost", "2 - not_finite"]
    );
}
