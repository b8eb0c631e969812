//! The weight store: blobs come back whole, and go when nobody needs them.

use std::fs;

use proptest::prelude::*;

use super::*;

fn open(folder: &Path) -> WeightStore {
    WeightStore::open(folder, 1 << 20).unwrap()
}

/// The names of all files under the folder, sorted.
fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .flat_map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap())
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_blob_reads_back_from_memory_from_files_and_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = store.put(b"weights".to_vec()).unwrap();
    assert_eq!(*store.get(&id).unwrap(), b"weights");
    let path = store.path(&id).unwrap();
    assert_eq!(path, folder.path().join(&id.as_str()[..2]).join(format!("{id}.safetensors")));
    assert_eq!(fs::read(path).unwrap(), b"weights");
    let uncached = WeightStore::open(folder.path(), 0).unwrap();
    assert!(uncached.contains(&id));
    assert_eq!(*uncached.get(&id).unwrap(), b"weights");
}

#[test]
fn what_was_left_half_written_is_gone_after_opening_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let id = open(folder.path()).put(b"whole".to_vec()).unwrap();
    let shelf = folder.path().join(&id.as_str()[..2]);
    fs::write(shelf.join(".unfinished-x1"), b"who").unwrap();
    fs::write(shelf.join("notes.txt"), b"somebody's own").unwrap();
    let store = open(folder.path());
    assert_eq!(files_in(folder.path()), [format!("{id}.safetensors"), "notes.txt".to_owned()]);
    assert_eq!(*store.get(&id).unwrap(), b"whole");
}

#[test]
fn a_corrupt_file_is_an_error_that_names_it_and_heals_when_the_bytes_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let id = open(folder.path()).put(b"good".to_vec()).unwrap();
    let store = WeightStore::open(folder.path(), 0).unwrap();
    let path = store.path(&id).unwrap();
    fs::write(&path, b"goof").unwrap();
    let error = store.get(&id).unwrap_err();
    assert!(matches!(&error, WeightsError::Corrupt { path: named, .. } if *named == path));
    assert!(error.to_string().contains("restore the file from a copy"), "{error}");
    store.put(b"good".to_vec()).unwrap();
    assert_eq!(*store.get(&id).unwrap(), b"good");
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = store.get(&WeightsId::of(b"never put")).unwrap_err();
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    let forged: WeightsId = serde_json::from_str("\"../../etc/passwd\"").unwrap();
    assert!(matches!(store.get(&forged), Err(WeightsError::NotAnId(_))));
    assert_eq!(store.path(&forged), None);
}

#[test]
fn the_same_bytes_from_many_threads_make_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let ids: HashSet<WeightsId> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.put(vec![7; 100_000]).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1);
    assert_eq!(files_in(folder.path()).len(), 1);
}

#[test]
fn what_a_writer_has_put_survives_every_deletion_until_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (one, two) = (store.writer(), store.writer());
    let id = one.put(b"fresh".to_vec()).unwrap();
    two.put(b"fresh".to_vec()).unwrap();
    two.put(b"fresh".to_vec()).unwrap();
    drop(two);
    assert_eq!(store.retain(&HashSet::new()).unwrap().kept, 1);
    assert!(!store.remove(&id).unwrap(), "the other writer still holds it");
    assert_eq!(*one.get(&id).unwrap(), b"fresh");
    drop(one);
    assert_eq!(store.retain(&HashSet::from([id.clone()])).unwrap().kept, 1, "it is pinned");
    assert_eq!(store.retain(&HashSet::new()).unwrap(), Swept { deleted: 1, bytes: 5, kept: 0 });
    assert!(matches!(store.get(&id), Err(WeightsError::Missing { .. })));
    assert!(files_in(folder.path()).is_empty());
}

#[test]
fn a_removed_blob_is_gone_and_can_be_put_again() {
    let folder = tempfile::tempdir().unwrap();
    for store in [open(folder.path()), WeightStore::in_memory()] {
        let id = store.put(b"bytes".to_vec()).unwrap();
        assert!(store.remove(&id).unwrap());
        assert!(store.remove(&id).unwrap(), "gone is gone");
        assert_eq!((store.contains(&id), store.bytes_in_memory()), (false, 0));
        store.put(b"bytes".to_vec()).unwrap();
        assert_eq!(*store.get(&id).unwrap(), b"bytes");
    }
}

#[test]
fn what_was_used_longest_ago_leaves_the_cache_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = WeightStore::open(folder.path(), 30).unwrap();
    let [first, second, third] = [1_u8, 2, 3].map(|fill| store.put(vec![fill; 10]).unwrap());
    store.get(&first).unwrap();
    let fourth = store.put(vec![4; 10]).unwrap();
    for id in [&first, &second, &third, &fourth] {
        fs::remove_file(store.path(id).unwrap()).unwrap();
    }
    // Without their files, only what is cached can still be read.
    assert!(store.get(&first).is_ok());
    assert!(store.get(&fourth).is_ok());
    assert!(store.get(&second).is_err());
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_it_and_leaves_no_hold() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = WeightsId::of(b"bytes");
    // A file where the shelf should be: refused for every user, root included.
    fs::write(folder.path().join(&id.as_str()[..2]), b"").unwrap();
    let error = store.writer().put(b"bytes".to_vec()).unwrap_err();
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    assert!(!store.contains(&id));
    fs::remove_file(folder.path().join(&id.as_str()[..2])).unwrap();
    store.put(b"bytes".to_vec()).unwrap();
    assert_eq!(store.retain(&HashSet::new()).unwrap().deleted, 1);
}

/// What a store may be asked to do with one of four blobs, through one of two writers.
#[derive(Debug, Clone)]
enum Action {
    Put(u8, usize),
    DropWriter(usize),
    Get(u8),
    Remove(u8),
    Retain(HashSet<u8>),
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..4_u8, 0..2_usize).prop_map(|(fill, writer)| Action::Put(fill, writer)),
        1 => (0..2_usize).prop_map(Action::DropWriter),
        2 => (0..4_u8).prop_map(Action::Get),
        1 => (0..4_u8).prop_map(Action::Remove),
        1 => prop::collection::hash_set(0..4_u8, 0..3).prop_map(Action::Retain),
        1 => Just(Action::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_store_does_what_two_sets_of_holds_say(actions in prop::collection::vec(action(), 0..30), bound in 0_u64..90) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = WeightStore::open(folder.path(), bound).unwrap();
        let mut writers = [store.writer(), store.writer()];
        let bytes = |fill: u8| vec![fill; 20 + usize::from(fill)];
        let ids: Vec<WeightsId> = (0..4).map(|fill| WeightsId::of(&bytes(fill))).collect();
        let id = |fill: u8| &ids[usize::from(fill)];
        let mut stored: HashSet<u8> = HashSet::new();
        let mut held: [HashSet<u8>; 2] = Default::default();
        for action in actions {
            match action {
                Action::Put(fill, writer) => {
                    prop_assert_eq!(&writers[writer].put(bytes(fill)).unwrap(), id(fill));
                    stored.insert(fill);
                    held[writer].insert(fill);
                }
                Action::DropWriter(writer) => {
                    writers[writer] = store.writer();
                    held[writer].clear();
                }
                Action::Get(fill) => {
                    let expected = stored.contains(&fill).then(|| Arc::new(bytes(fill)));
                    prop_assert_eq!(store.get(id(fill)).ok(), expected);
                }
                Action::Remove(fill) => {
                    let is_held = held.iter().any(|held| held.contains(&fill));
                    prop_assert_eq!(store.remove(id(fill)).unwrap(), !is_held);
                    if !is_held {
                        stored.remove(&fill);
                    }
                }
                Action::Retain(pins) => {
                    store.retain(&pins.iter().map(|&fill| id(fill).clone()).collect()).unwrap();
                    stored.retain(|fill| pins.contains(fill) || held.iter().any(|held| held.contains(fill)));
                }
                Action::Reopen => {
                    store = WeightStore::open(folder.path(), bound).unwrap();
                    writers = [store.writer(), store.writer()];
                    held = Default::default();
                }
            }
            prop_assert!(store.bytes_in_memory() <= bound);
            let there: HashSet<u8> = (0..4).filter(|&fill| store.contains(id(fill))).collect();
            prop_assert_eq!(&there, &stored);
            prop_assert_eq!(files_in(folder.path()).len(), stored.len());
        }
    }
}

#[test]
fn what_is_held_when_it_is_to_be_removed_goes_once_nobody_holds_it_unless_it_was_put_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = WeightStore::open(folder.path(), 0).unwrap();
    let (one, two) = (store.writer(), store.writer());
    let (kept, gone) = (one.put(b"kept".to_vec()).unwrap(), one.put(b"gone".to_vec()).unwrap());
    assert!(!store.remove(&kept).unwrap() && !store.remove(&gone).unwrap());
    store.remove_unwanted().unwrap();
    assert!(store.contains(&gone), "it is still held");
    two.put(b"kept".to_vec()).unwrap();
    drop((one, two));
    store.remove_unwanted().unwrap();
    assert!(store.contains(&kept) && !store.contains(&gone));
    assert!(store.get(&kept).is_ok() && store.get(&gone).is_err());
}

/// A deletion that takes until `reading` is let go of stands for one of a large file.
#[test]
fn who_lets_go_waits_for_no_deletion_and_who_puts_does() {
    let store = WeightStore::in_memory();
    let leaving = store.put(b"leaving".to_vec()).unwrap();
    let writer = store.writer();
    let kept = writer.put(b"kept".to_vec()).unwrap();
    let Backing::Memory(blobs) = &store.inner.backing else { panic!("it has no files") };
    let reading = blobs.get(&leaving).unwrap();
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| store.remove(&leaving));
        while store.contains(&leaving) {
            std::thread::yield_now();
        }
        drop(writer);
        assert!(store.contains(&kept));
        let put = scope.spawn(|| store.put(b"leaving".to_vec()));
        drop(reading);
        assert!(removal.join().unwrap().unwrap());
        assert_eq!(put.join().unwrap().unwrap(), leaving);
    });
    assert!(store.contains(&leaving));
    assert_eq!(*store.get(&leaving).unwrap(), b"leaving");
}
