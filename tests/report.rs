//! The report and the front of searches that the engine simulated or that were written by hand: through the library and
//! through the binary.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use rand_chacha::rand_core::Rng;
use roxmltree::{Document, Node, ParsingOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spnas::report::write_report;
use spnas_actors::device::Place;
use spnas_actors::event::{Event, Failed, Finished, Leased, Noted, Proposed, Reported, Role, Trained, Transition};
use spnas_actors::journal::{JournalMeta, JournalStore, JournalSync};
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::simulation::{Fault, FaultPlan, SimulateTrial};
use spnas_actors::stopping::Verdict;
use spnas_actors::trial::{FailureReason, Outcome};
use spnas_actors::{
    Attempt, Epoch, Metrics, Objective, RawCandidate, Score, Search, SearchOutcome, SearchSpace, TrialId, WeightsId,
    journal_path,
};

#[derive(Clone, Serialize, Deserialize)]
struct Bits(u64);

struct Space;

impl SearchSpace for Space {
    type Candidate = Bits;

    fn sample(&self, rng: &mut SearchRng) -> Bits {
        Bits(rng.next_u64())
    }

    fn mutate(&self, parent: &Bits, rng: &mut SearchRng) -> Bits {
        Bits(parent.0 ^ 1 << (rng.next_u64() % 64))
    }

    fn key(&self, bits: &Bits) -> String {
        format!("{:016x}", bits.0)
    }
}

fn metrics<const N: usize>(pairs: [(&str, f64); N]) -> Metrics {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), Score::new(value).unwrap())).collect()
}

struct Curves;

impl SimulateTrial for Curves {
    type Candidate = Bits;

    fn epoch(&self, _: TrialId, bits: &Bits, epoch: Epoch) -> (Duration, Metrics) {
        let quality = f64::from(bits.0.count_ones()) / 64.0 * (1.0 - 0.5_f64.powi(epoch.0 as i32));
        (Duration::from_millis(400 + bits.0 % 900), metrics([("quality", quality)]))
    }

    fn evaluation(&self, _: TrialId, bits: &Bits) -> (Duration, Metrics) {
        let quality = f64::from(bits.0.count_ones()) / 64.0;
        let cost = 1e6 * f64::from((bits.0 & 0xffff).count_ones()) + 1.0 / 3.0;
        (Duration::from_millis(90), metrics([("quality", quality), ("cost", cost)]))
    }
}

fn simulate(folder: &Path, trials: u64, devices: u32, faults: FaultPlan) -> SearchOutcome<Bits> {
    std::fs::create_dir_all(folder).unwrap();
    let objectives = [Objective::maximise("quality"), Objective::minimise("cost")];
    let search = Search::new(objectives, trials, Epoch(3)).seed(1).max_retries(1).folder(folder);
    let search = search.sampler(|| RandomSampler::new(Space.into())).time_limit(Duration::from_secs(60));
    search
        .journal_sync(JournalSync::Interval(Duration::from_secs(9)))
        .simulated(devices, 1, Curves, faults)
        .run()
        .unwrap()
}

/// Writes a journal by hand.
fn write_journal(folder: &Path, objectives: Vec<Objective>, transitions: &[Transition]) {
    std::fs::create_dir_all(folder).unwrap();
    let meta = JournalMeta { created_by: "a test".into(), seed: 0, config_hash: String::new(), objectives };
    let mut store = JournalStore::create(&journal_path(folder), &meta, JournalSync::Full).unwrap();
    let entries: Vec<_> = transitions.iter().map(|transition| transition.to_entry().unwrap()).collect();
    if !entries.is_empty() {
        store.append(&entries).unwrap();
    }
}

/// A trial's life from proposal to `last`, beginning at `at_ms`.
fn life(trial: u64, key: &str, parent: Option<u64>, at_ms: u64, last: Event) -> Vec<Transition> {
    let attempt = Attempt(1);
    let leased = |role| Event::Leased(Leased { role, attempt, device: Place::Cuda { ordinal: trial as u32 % 2 } });
    let candidate = RawCandidate::of(&key).unwrap();
    let parent = parent.map(TrialId);
    let proposed = Proposed { seen: 0, key: key.to_owned(), candidate, parent, origin: format!("swap <{key}>") };
    let loss = metrics([("loss", 1.0 / trial as f64)]);
    let reported = Reported { attempt, epoch: Epoch(1), metrics: loss, checkpoint: None, verdict: Verdict::Continue };
    let mut events = vec![Event::Proposed(proposed), leased(Role::Train)];
    if parent.is_some() {
        events.push(Event::Noted(Noted(BTreeMap::from([("inherited".to_owned(), json!({"params_share": 0.625}))]))));
    }
    events.push(Event::Reported(reported));
    if matches!(last, Event::Finished(_)) {
        let weights = WeightsId::of(key.as_bytes());
        events.push(Event::Trained(Trained { attempt, weights, metrics: Metrics::new() }));
    }
    events.push(last);
    let transition = |(at, event)| Transition { at_ms: at_ms + 1_000 * at, trial: TrialId(trial), event };
    (0_u64..).zip(events).map(transition).collect()
}

fn finished<const N: usize>(pairs: [(&str, f64); N]) -> Event {
    Event::Finished(Finished { metrics: metrics(pairs) })
}

/// The page of the search in `folder`. It is refused where it is not well-formed, or needs anything from elsewhere.
fn page(folder: &Path) -> String {
    let file = folder.join("page.html");
    write_report(folder, &file).unwrap();
    let html = std::fs::read_to_string(file).unwrap();
    let page = parse(&html);
    for node in page.descendants() {
        for name in ["src", "href"] {
            let target = node.attribute(name).unwrap_or("#");
            assert!(target.starts_with('#') || target.starts_with("data:image/"), "{target}");
        }
    }
    html
}

fn parse(html: &str) -> Document<'_> {
    Document::parse_with_options(html, ParsingOptions { allow_dtd: true, ..ParsingOptions::default() }).unwrap()
}

fn with_class<'a>(
    page: &'a Document<'a>,
    name: &'static str,
    class: &'static str,
) -> impl Iterator<Item = Node<'a, 'a>> {
    // By the local name: pictures have SVG's name space.
    page.descendants().filter(move |node| node.tag_name().name() == name).filter(move |node| {
        node.attribute("class").is_some_and(|classes| classes.split(' ').any(|found| found == class))
    })
}

fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|inner| inner.text().filter(|_| inner.is_text())).collect()
}

fn trials_in<'a>(nodes: impl Iterator<Item = Node<'a, 'a>>) -> BTreeSet<u64> {
    let marks = nodes.flat_map(|node| node.descendants().filter_map(|mark| mark.attribute("data-t")));
    marks.map(|trial| trial.parse().unwrap()).collect()
}

#[test]
fn every_member_of_the_front_is_in_the_picture_and_in_the_table_with_the_journals_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = simulate(&folder.path().join("workers/serial"), 60, 3, FaultPlan::none());
    let html = page(folder.path());
    let page = parse(&html);
    let front: BTreeSet<u64> = outcome.front.iter().map(|member| member.trial.0).collect();
    assert!(front.len() > 2, "{front:?}");
    assert_eq!(trials_in(with_class(&page, "g", "members")), front);
    let table = with_class(&page, "table", "front").next().unwrap();
    assert_eq!(trials_in([table].into_iter()), front);
    for member in &outcome.front {
        let trial = member.trial.to_string();
        let row = table.descendants().find(|node| node.attribute("data-t") == Some(&trial)).unwrap();
        let cells: Vec<Node<'_, '_>> = row.children().collect();
        assert_eq!((text_of(cells[0]), text_of(cells[1])), (trial, member.key.clone()));
        for (cell, name) in [(2, "quality"), (3, "cost")] {
            let whole: f64 = cells[cell].attribute("title").unwrap().parse().unwrap();
            assert_eq!(whole, member.metrics[name].get(), "{name} with all digits");
        }
    }
    let others = trials_in(with_class(&page, "g", "points"));
    assert_eq!(others.len() + front.len(), 60, "the rest are faint points");
    let tile = with_class(&page, "div", "tile").next().unwrap();
    assert!(text_of(tile).starts_with("trials finished60"), "{}", text_of(tile));
    let spans = with_class(&page, "g", "spans").flat_map(|row| row.children());
    assert_eq!(spans.count(), 120, "each trial was trained and evaluated once");
}

#[test]
fn failed_trials_are_listed_with_their_reasons_and_what_came_of_them() {
    let first = Attempt(1);
    let faults = FaultPlan::none()
        .with(TrialId(2), first, Fault::NotFinite)
        .with(TrialId(3), first, Fault::OutOfMemory)
        .with(TrialId(4), first, Fault::Panic)
        .with(TrialId(4), Attempt(2), Fault::Panic)
        .with(TrialId(6), first, Fault::Hang);
    let folder = tempfile::tempdir().unwrap();
    let outcome = simulate(folder.path(), 12, 2, faults);
    let html = page(folder.path());
    let page = parse(&html);
    let table = with_class(&page, "table", "failures").next().unwrap();
    let mut given_up = BTreeSet::new();
    for row in table.descendants().filter(|node| node.attribute("data-t").is_some()) {
        let trial: u64 = row.attribute("data-t").unwrap().parse().unwrap();
        if text_of(row).ends_with("given up") {
            let Some(Outcome::Failed { reason }) = outcome.state.trial(TrialId(trial)).unwrap().outcome() else {
                panic!("trial {trial} did not fail")
            };
            assert!(text_of(row).contains(&reason.to_string()), "{}", text_of(row));
            assert!(given_up.insert(trial), "trial {trial} is given up once");
        }
    }
    assert_eq!(given_up, BTreeSet::from([2, 4, 6]));
    let text = text_of(table);
    assert!(text.contains("tried again with batches cut in 2") && text.contains("training, attempt 2"), "{text}");
}

#[test]
fn nothing_that_a_search_recorded_becomes_markup() {
    let hostile = "</script><img src=x onerror=alert(1)>&amp;\"'\u{1b}[31m\u{ffff}";
    let reason = FailureReason::Other { message: hostile.to_owned() };
    let mut transitions = life(1, hostile, None, 0, finished([(hostile, 1.0), ("b", 2.0)]));
    transitions.extend(life(2, "x", Some(1), 0, Event::Failed(Failed { reason })));
    let folder = tempfile::tempdir().unwrap();
    let objectives = vec![Objective::maximise(hostile), Objective::minimise("b")];
    write_journal(&folder.path().join("workers").join("<b>step & co"), objectives, &transitions);
    let html = page(folder.path());
    let page = parse(&html);
    assert!(!html.contains("<img") && !html.contains("<b>"));
    assert_eq!(page.descendants().filter(|node| node.tag_name().name() == "script").count(), 2);
    let codes: Vec<String> = with_class(&page, "table", "front").map(text_of).collect();
    assert!(codes[0].contains("</script><img src=x onerror=alert(1)>&amp;"), "{codes:?}");
    let tips = with_class(&page, "script", "tips").next().unwrap();
    let tips: BTreeMap<String, String> = serde_json::from_str(&text_of(tips)).unwrap();
    assert!(tips["1"].contains("</script><img src=x"), "{tips:?}");
}

#[test]
fn a_search_without_trials_and_one_cut_off_anywhere_have_their_page() {
    let whole = tempfile::tempdir().unwrap();
    let faults = FaultPlan::none().with(TrialId(2), Attempt(1), Fault::Panic);
    let outcome = simulate(whole.path(), 6, 2, faults);
    let rows: Vec<Transition> =
        outcome.journal.read_all().map(|row| Transition::from_row(&row.unwrap()).unwrap()).collect();
    for cut in 0..=rows.len() {
        let folder = tempfile::tempdir().unwrap();
        write_journal(folder.path(), outcome.journal.meta().objectives.clone(), &rows[..cut]);
        let html = page(folder.path());
        let page = parse(&html);
        let standing = text_of(with_class(&page, "p", "standing").next().unwrap());
        let expected = match cut {
            0 => "No trial",
            _ if cut == rows.len() => "Every trial",
            _ => "",
        };
        assert!(standing.starts_with(expected), "after {cut} of {} rows: {standing}", rows.len());
    }
}

#[test]
fn one_objective_is_drawn_over_time_and_of_three_the_first_two() {
    for count in [1, 3] {
        let names = ["a", "b", "c"];
        let objectives = names[..count].iter().map(|name| Objective::minimise(*name)).collect();
        let mut transitions = Vec::new();
        for (trial, [a, b, c]) in (1..).zip([[3.0, 3.0, 1.0], [1.0, 2.0, 9.0], [2.0, 1.0, 9.0], [4.0, 4.0, 4.0]]) {
            let end = finished([("a", a), ("b", b), ("c", c)]);
            transitions.extend(life(trial, &format!("1-{trial}"), None, 9_000 * trial, end));
        }
        let folder = tempfile::tempdir().unwrap();
        write_journal(folder.path(), objectives, &transitions);
        let html = page(folder.path());
        let page = parse(&html);
        let members = if count == 1 { BTreeSet::from([2]) } else { BTreeSet::from([1, 2, 3]) };
        assert_eq!(trials_in(with_class(&page, "g", "members")), members);
        assert_eq!(html.contains("the first two of 3 objectives"), count == 3);
    }
}

#[test]
fn the_page_of_five_thousand_trials_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    simulate(folder.path(), 5_000, 64, FaultPlan::none());
    let html = page(folder.path());
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
}

#[test]
fn heirs_show_how_much_they_kept() {
    let mut transitions = life(1, "1-1", None, 0, finished([("a", 2.0)]));
    transitions.extend(life(2, "1-2", Some(1), 20_000, finished([("a", 1.0)])));
    let folder = tempfile::tempdir().unwrap();
    write_journal(folder.path(), vec![Objective::minimise("a")], &transitions);
    let html = page(folder.path());
    let page = parse(&html);
    let tree = with_class(&page, "svg", "tree").next().unwrap();
    assert_eq!(trials_in([tree].into_iter()), BTreeSet::from([1, 2]));
    assert!(text_of(tree).contains("62\u{a0}%") || text_of(tree).contains("63\u{a0}%"), "{}", text_of(tree));
}

#[test]
fn held_out_images_are_in_the_page_with_their_boxes() {
    let folder = tempfile::tempdir().unwrap();
    write_journal(
        &folder.path().join("workers/serial"),
        vec![Objective::minimise("a")],
        &life(1, "1-1", None, 0, finished([("a", 2.0)])),
    );
    let output = folder.path().join("output/serial");
    std::fs::create_dir_all(&output).unwrap();
    image::RgbImage::new(64, 48).save(output.join("held out.png")).unwrap();
    let detections = json!({
        "trial": 1, "code": "1-1", "categories": ["zero", "<one>"],
        "images": [
            {"file": "output/serial/held out.png", "width": 64, "height": 48,
             "truth": [{"box": [1, 2, 30, 40], "label": 2}],
             "found": [{"box": [1, 3, 30, 40], "label": 2, "score": 0.91}, {"box": [0, 0, 9, 9], "label": 1, "score": 0.1}]},
            {"file": "missing.png", "width": 64, "height": 48},
        ],
    });
    std::fs::write(output.join("detections.json"), detections.to_string()).unwrap();
    let html = page(folder.path());
    let page = parse(&html);
    let images: Vec<Node<'_, '_>> = with_class(&page, "div", "image").collect();
    assert_eq!(images.len(), 2);
    let data = images[0].descendants().find_map(|node| node.attribute("href")).unwrap();
    assert!(data.starts_with("data:image/png;base64,iVBOR"), "{data}");
    assert_eq!(images[0].descendants().filter(|node| node.attribute("class") == Some("truth")).count(), 1);
    let text = text_of(images[0]);
    assert!(
        text.contains("<one> 0.91") && !text.contains("zero") && text.contains("1 of 1 objects found, 0 wrong"),
        "{text}"
    );
    assert!(text_of(images[1]).contains("missing.png"), "{}", text_of(images[1]));

    std::fs::write(output.join("detections.json"), "{").unwrap();
    let html = self::page(folder.path());
    assert!(html.contains("detections.json cannot be understood"));
}

#[test]
fn held_out_images_are_in_the_page_with_their_label_maps() {
    let folder = tempfile::tempdir().unwrap();
    let objectives = vec![Objective::minimise("a")];
    write_journal(&folder.path().join("workers/serial"), objectives, &life(1, "1-1", None, 0, finished([("a", 2.0)])));
    let output = folder.path().join("output/serial");
    std::fs::create_dir_all(output.join("segmentations")).unwrap();
    for name in ["seen.png", "segmentations/0_truth.png", "segmentations/0_found.png"] {
        image::RgbImage::new(64, 48).save(output.join(name)).unwrap();
    }
    let image = |file| json!({"file": file, "truth": "segmentations/0_truth.png", "found": "segmentations/0_found.png", "right": 0.875});
    let segmentations = json!({
        "trial": 1, "code": "1-1", "images": [image("seen.png"), image("missing.png")],
        "classes": [{"name": "nothing", "colour": [0, 0, 0]}, {"name": "<cat>", "colour": [128, 0, 0]}],
    });
    std::fs::write(output.join("segmentations.json"), segmentations.to_string()).unwrap();
    let html = page(folder.path());
    let page = parse(&html);
    let images: Vec<Node<'_, '_>> = with_class(&page, "div", "image").collect();
    assert_eq!(images.len(), 2);
    let data = images[0].descendants().find_map(|node| node.attribute("href")).unwrap();
    assert!(data.starts_with("data:image/jpeg;base64,/9j/"), "{data}");
    assert!(text_of(images[0]).contains("87.5 % of the pixels right"), "{}", text_of(images[0]));
    assert!(text_of(images[1]).contains("missing.png"), "{}", text_of(images[1]));
    let keys: Vec<_> = with_class(&page, "span", "key").map(|key| key.attribute("style")).collect();
    assert_eq!(keys, [Some("background:rgb(128,0,0)")], "class 0 has no colour");
    assert!(html.contains("&lt;cat&gt;"));

    std::fs::write(output.join("segmentations.json"), "{").unwrap();
    let html = self::page(folder.path());
    assert!(html.contains("segmentations.json cannot be understood"));
}

#[test]
fn a_damaged_step_does_not_keep_the_others_out() {
    let folder = tempfile::tempdir().unwrap();
    simulate(&folder.path().join("workers/serial"), 4, 1, FaultPlan::none());
    let damaged = folder.path().join("workers/full");
    std::fs::create_dir_all(&damaged).unwrap();
    std::fs::write(journal_path(&damaged), "this is no database, and long enough to be told from one").unwrap();
    std::fs::write(folder.path().join("config.yml"), "pipeline: [full, serial]\nserial: {}\n").unwrap();
    let summary = write_report(folder.path(), &folder.path().join("page.html")).unwrap();
    assert_eq!(summary.steps, [("serial".to_owned(), 4)]);
    assert_eq!(summary.unreadable[0].0, "full");
    let html = page(folder.path());
    let page = parse(&html);
    let headings = page.descendants().filter(|node| node.tag_name().name() == "h2").map(text_of);
    assert_eq!(headings.collect::<Vec<_>>(), ["full", "serial"], "in the pipeline's order");
}

fn spnas(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("spnas").unwrap().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_front_is_printed_for_people_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = simulate(&folder.path().join("workers/serial"), 30, 2, FaultPlan::none());
    simulate(&folder.path().join("workers/full"), 3, 2, FaultPlan::none());
    let output = folder.path().join("output/serial");
    std::fs::create_dir_all(&output).unwrap();
    let first = &outcome.front[0];
    let weights = output.join(format!("model_{}.safetensors", first.trial));
    std::fs::write(&weights, "").unwrap();
    let task = folder.path().to_str().unwrap();

    let (code, json, err) = spnas(&["front", task, "--step", "serial", "--json"]);
    assert_eq!(code, 0, "{err}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["step"], "serial");
    let members = json[0]["front"].as_array().unwrap();
    assert_eq!(members.len(), outcome.front.len());
    for (member, found) in members.iter().zip(&outcome.front) {
        assert_eq!(member["trial"].as_u64(), Some(found.trial.0));
        assert_eq!(member["code"].as_str(), Some(found.key.as_str()));
        assert_eq!(member["metrics"]["cost"].as_f64(), Some(found.metrics["cost"].get()));
    }
    let file = members[0]["files"][0].as_str().unwrap();
    assert!(file.ends_with(&format!("output/serial/model_{}.safetensors", first.trial)), "{file}");

    let (code, table, _) = spnas(&["front", task]);
    assert_eq!(code, 0);
    assert!(table.contains("serial: ") && table.contains("full: ") && table.contains("quality (max)"), "{table}");
    assert!(outcome.front.iter().all(|member| table.contains(&member.key)), "{table}");
    let engine_folder = folder.path().join("workers/full");
    let (code, table, _) = spnas(&["front", engine_folder.to_str().unwrap()]);
    assert_eq!((code, table.contains("serial: ")), (0, false));
}

#[test]
fn a_report_goes_where_it_is_told_and_no_search_is_the_inputs_fault() {
    let folder = tempfile::tempdir().unwrap();
    simulate(&folder.path().join("workers/serial"), 3, 1, FaultPlan::none());
    let task = folder.path().to_str().unwrap();
    let (code, out, err) = spnas(&["report", task]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("serial: 3 trials") && folder.path().join("report.html").is_file(), "{out}");
    let elsewhere = folder.path().join("elsewhere.html");
    assert_eq!(spnas(&["report", task, "--out", elsewhere.to_str().unwrap()]).0, 0);
    assert!(elsewhere.is_file());

    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (arguments, said) in [
        (vec!["report", empty], "holds no search"),
        (vec!["front", empty], "holds no search"),
        (vec!["front", "/nowhere/at/all"], "holds no search"),
        (vec!["front", task, "--step", "parallel"], "steps: serial"),
    ] {
        let (code, out, err) = spnas(&arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
}
