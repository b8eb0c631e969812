use std::fs;

use proptest::prelude::*;

use super::*;

fn open(folder: &Path) -> WeightStore {
    WeightStore::open(folder, 1 << 20).unwrap()
}

fn pins(ids: &[&WeightsId]) -> HashSet<WeightsId> {
    ids.iter().map(|&id| id.clone()).collect()
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
    assert!(error.to_string().contains("delete it and train"), "{error}");
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
fn a_blob_put_but_not_yet_settled_survives_every_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = store.put(b"fresh".to_vec()).unwrap();
    store.put(b"fresh".to_vec()).unwrap();
    assert_eq!(store.retain(&HashSet::new()).unwrap().kept, 1);
    store.settle(&id);
    assert_eq!(store.retain(&HashSet::new()).unwrap().kept, 1, "it was put twice and settled once");
    store.settle(&id);
    assert_eq!(store.retain(&pins(&[&id])).unwrap().kept, 1, "it is pinned");
    assert_eq!(store.retain(&HashSet::new()).unwrap(), Swept { deleted: 1, bytes: 5, kept: 0 });
    assert!(matches!(store.get(&id), Err(WeightsError::Missing { .. })));
    assert!(files_in(folder.path()).is_empty());
}

#[test]
fn a_writer_gives_its_holds_back_when_it_is_dropped() {
    let store = WeightStore::in_memory();
    let writer = store.writer();
    writer.put(b"one".to_vec()).unwrap();
    writer.put(b"one".to_vec()).unwrap();
    writer.put(b"two".to_vec()).unwrap();
    assert_eq!(store.retain(&HashSet::new()).unwrap().kept, 2);
    drop(writer);
    assert_eq!(store.retain(&HashSet::new()).unwrap().deleted, 2);
    assert_eq!(store.bytes_in_memory(), 0);
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
    let error = store.put(b"bytes".to_vec()).unwrap_err();
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    assert!(!store.contains(&id));
    fs::remove_file(folder.path().join(&id.as_str()[..2])).unwrap();
    store.put(b"bytes".to_vec()).unwrap();
    store.settle(&id);
    assert_eq!(store.retain(&HashSet::new()).unwrap().deleted, 1);
}

/// What a store may be asked to do with one of four blobs.
#[derive(Debug, Clone)]
enum Action {
    Put(u8),
    Settle(u8),
    Get(u8),
    Retain(Vec<u8>),
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..4_u8).prop_map(Action::Put),
        (0..4_u8).prop_map(Action::Settle),
        (0..4_u8).prop_map(Action::Get),
        prop::collection::vec(0..4_u8, 0..3).prop_map(Action::Retain),
        Just(Action::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_store_does_what_a_map_with_counts_does(actions in prop::collection::vec(action(), 0..30), bound in 0_u64..90) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = WeightStore::open(folder.path(), bound).unwrap();
        let bytes = |fill: u8| vec![fill; 20 + usize::from(fill)];
        let ids: Vec<WeightsId> = (0..4).map(|fill| WeightsId::of(&bytes(fill))).collect();
        // Per blob: whether it is stored, and its holds.
        let mut model = [(false, 0_u32); 4];
        for action in actions {
            match action {
                Action::Put(fill) => {
                    prop_assert_eq!(&store.put(bytes(fill)).unwrap(), &ids[usize::from(fill)]);
                    let blob = &mut model[usize::from(fill)];
                    *blob = (true, blob.1 + 1);
                }
                Action::Settle(fill) => {
                    store.settle(&ids[usize::from(fill)]);
                    let blob = &mut model[usize::from(fill)];
                    blob.1 = blob.1.saturating_sub(1);
                }
                Action::Get(fill) => {
                    let got = store.get(&ids[usize::from(fill)]).ok();
                    let expected = model[usize::from(fill)].0.then(|| Arc::new(bytes(fill)));
                    prop_assert_eq!(got, expected);
                }
                Action::Retain(kept) => {
                    store.retain(&kept.iter().map(|&fill| ids[usize::from(fill)].clone()).collect()).unwrap();
                    for (fill, blob) in model.iter_mut().enumerate() {
                        blob.0 &= blob.1 > 0 || kept.contains(&(fill as u8));
                    }
                }
                Action::Reopen => {
                    store = WeightStore::open(folder.path(), bound).unwrap();
                    for blob in &mut model {
                        blob.1 = 0;
                    }
                }
            }
            prop_assert!(store.bytes_in_memory() <= bound);
            let there: Vec<bool> = ids.iter().map(|id| store.contains(id)).collect();
            prop_assert_eq!(there, model.iter().map(|blob| blob.0).collect::<Vec<_>>());
        }
    }
}
