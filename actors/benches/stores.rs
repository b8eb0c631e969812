//! How fast the parts are that keep what a search has found: front, hypervolume, journal, weights. The stopping rules are
//! timed by `stopping.rs`. `cargo bench -p spnas-actors` prints a table; pass a word to run the lines that contain it.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use spnas_actors::archive::{Front, HypervolumeTrack, hypervolume};
use spnas_actors::event::Transition;
use spnas_actors::ids::TrialId;
use spnas_actors::journal::{Entry, JournalMeta, JournalStore, JournalSync, JournalWriter, Row, Urgency};
use spnas_actors::rng::{SearchRng, stream};
use spnas_actors::weights::WeightStore;

/// Runs a line: how many operations it did, and in what time.
type Run = fn() -> (u64, Duration);

fn main() {
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let lines: &[(&str, Run)] = &[
        ("front, 2 objectives, random costs", || front_random(2, 1_000_000)),
        ("front, 2 objectives, nobody dominated", || front_line(1_000_000)),
        ("front, 3 objectives, random costs", || front_random(3, 200_000)),
        ("hypervolume track, 2 objectives, nobody dominated", || track_line(1_000_000)),
        ("hypervolume, 3 objectives, 1,000 points on the sphere", || volume_of_sphere(1_000)),
        ("journal, full sync, one append at a time", || journal_alone(JournalSync::Full, 500)),
        ("journal, full sync, 64 appends waiting", || journal_grouped(JournalSync::Full, 20_000)),
        ("journal, synced each second, one at a time", || journal_alone(JournalSync::Interval(SECOND), 20_000)),
        ("journal, synced each second, 64 waiting", || journal_grouped(JournalSync::Interval(SECOND), 100_000)),
        ("journal, in memory", journal_in_memory),
        ("journal, rows read back", journal_read),
        ("weights, put of 1 MiB", weights_put),
        ("weights, get of 1 MiB from a file, checked", || weights_get(0)),
        ("weights, get of 1 MiB from the cache", || weights_get(1 << 30)),
    ];
    println!("{:<56} {:>10} {:>12} {:>14}", "", "operations", "seconds", "per second");
    for (name, run) in lines.iter().filter(|(name, _)| name.contains(&wanted)) {
        let (count, time) = run();
        let seconds = time.as_secs_f64();
        println!("{name:<56} {count:>10} {seconds:>12.3} {:>14.0}", count as f64 / seconds);
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn rng() -> SearchRng {
    stream(1, 1)
}

fn front_random(objectives: usize, count: u64) -> (u64, Duration) {
    let mut rng = rng();
    let points: Vec<Vec<f64>> = (0..count).map(|_| (0..objectives).map(|_| rng.random()).collect()).collect();
    insert_all(objectives, points)
}

fn front_line(count: u64) -> (u64, Duration) {
    let mut rng = rng();
    let points = (0..count).map(|_| rng.random::<f64>()).map(|x| vec![x, 1.0 - x]).collect();
    insert_all(2, points)
}

fn insert_all(objectives: usize, points: Vec<Vec<f64>>) -> (u64, Duration) {
    let count = points.len() as u64;
    let mut front = Front::new(objectives);
    let start = Instant::now();
    for (trial, costs) in (1..).zip(points) {
        front.insert(TrialId(trial), costs).expect("the costs are finite");
    }
    black_box(&front);
    (count, start.elapsed())
}

fn track_line(count: u64) -> (u64, Duration) {
    let mut rng = rng();
    let mut track = HypervolumeTrack::new(vec![1.0, 1.0]).expect("the reference is finite");
    let start = Instant::now();
    for _ in 0..count {
        let x: f64 = rng.random();
        track.insert(&[x, 1.0 - x]).expect("the costs are finite");
    }
    black_box(track.value());
    (count, start.elapsed())
}

fn volume_of_sphere(count: usize) -> (u64, Duration) {
    let mut rng = rng();
    let mut point = || {
        let (a, b) = (rng.random::<f64>() * 1.57, rng.random::<f64>() * 1.57);
        [a.cos() * b.cos(), a.cos() * b.sin(), a.sin()]
    };
    let points: Vec<[f64; 3]> = (0..count).map(|_| point()).collect();
    let start = Instant::now();
    black_box(hypervolume(&points, &[1.5; 3]).expect("the points fit"));
    (1, start.elapsed())
}

fn meta() -> JournalMeta {
    JournalMeta { created_by: "bench".to_owned(), seed: 1, config_hash: String::new(), objectives: Vec::new() }
}

fn entry(number: u64) -> Entry {
    let body = format!(
        r#"{{"attempt":1,"epoch":{number},"metrics":{{"loss":0.123456789,"mAP":0.3}},"checkpoint":null,"verdict":"continue"}}"#
    );
    Entry { at_ms: number, trial: Some(TrialId(number)), kind: "reported".into(), body }
}

fn reported(number: u64) -> Arc<Transition> {
    let entry = entry(number);
    let row = Row { seq: number + 1, entry };
    Arc::new(Transition::from_row(&row).expect("the entry is well formed"))
}

fn journal(folder: &tempfile::TempDir, sync: JournalSync) -> JournalStore {
    JournalStore::create(&folder.path().join("journal.sqlite"), &meta(), sync).expect("the folder is empty")
}

fn folder() -> tempfile::TempDir {
    // In the target folder, which is on a disk where the system's temporary folder may not be.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder can be written")
}

fn journal_alone(sync: JournalSync, count: u64) -> (u64, Duration) {
    let folder = folder();
    let mut store = journal(&folder, sync);
    let start = Instant::now();
    for number in 0..count {
        store.append(&[entry(number)]).expect("the disk has room");
    }
    (count, start.elapsed())
}

fn journal_grouped(sync: JournalSync, count: u64) -> (u64, Duration) {
    let folder = folder();
    let writer = JournalWriter::start(journal(&folder, sync), 64).expect("a thread starts");
    let start = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..count {
        let mut transitions = vec![reported(number)];
        loop {
            match writer.try_append(transitions, Urgency::Awaited) {
                Ok(ack) => break waiting.push_back(ack),
                Err(back) => transitions = back,
            }
            let ack = waiting.pop_front().expect("the queue is full of these");
            ack.blocking_recv().expect("the thread lives").expect("the disk has room");
        }
    }
    writer.close().expect("all is written");
    (count, start.elapsed())
}

fn journal_in_memory() -> (u64, Duration) {
    let mut store = JournalStore::in_memory(&meta());
    let start = Instant::now();
    for number in 0..500_000 {
        store.append(&[entry(number)]).expect("memory has room");
    }
    (500_000, start.elapsed())
}

fn journal_read() -> (u64, Duration) {
    let folder = folder();
    let mut store = journal(&folder, JournalSync::Full);
    store.append(&(0..200_000).map(entry).collect::<Vec<_>>()).expect("the disk has room");
    let start = Instant::now();
    let rows = store.read_all().filter(Result::is_ok).count();
    (rows as u64, start.elapsed())
}

fn blobs() -> Vec<Vec<u8>> {
    (0..100_u64).map(|number| number.to_le_bytes().repeat(1 << 17)).collect()
}

fn weights_put() -> (u64, Duration) {
    let folder = folder();
    let store = WeightStore::open(folder.path(), 0).expect("the folder can be written");
    let blobs = blobs();
    let start = Instant::now();
    let ids: HashSet<_> = blobs.into_iter().map(|blob| store.put(blob).expect("the disk has room")).collect();
    (ids.len() as u64, start.elapsed())
}

fn weights_get(cache_bytes: u64) -> (u64, Duration) {
    let folder = folder();
    let store = WeightStore::open(folder.path(), cache_bytes).expect("the folder can be written");
    let ids: Vec<_> = blobs().into_iter().map(|blob| store.put(blob).expect("the disk has room")).collect();
    let start = Instant::now();
    for id in &ids {
        let bytes: Arc<Vec<u8>> = store.get(id).expect("it was just put");
        black_box(bytes);
    }
    (ids.len() as u64, start.elapsed())
}
