//! Trials trained by external programs, here shell scripts: what they are given, what becomes of what they say, and that
//! none of them is left behind.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use spnas_actors::device::{Device, Place};
use spnas_actors::event::{Event, Transition};
use spnas_actors::objective::Objective;
use spnas_actors::sampler::evolution::{AgingEvolution, EvolutionSpec};
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::stopping::StoppingRule;
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::trial::{FailureReason, Outcome};
use spnas_actors::{
    Assignment, Command, CommandTrainer, Epoch, ExternalProgram, ParameterSpace, Search, SearchEnd, SearchOutcome,
    TrialId,
};

/// Whoever waits longer than this waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that runs this script; `$file` in it is a file beside the search's.
    fn program(&self, script: &str) -> ExternalProgram {
        let script = format!("file='{}'\n{script}", self.path("file").display());
        let logs = self.path("logs");
        ExternalProgram::new("/bin/sh", ["-c".to_owned(), script], self.path("programs"))
            .log(move |trial| logs.join(format!("{trial}.log")))
            .grace(Duration::from_secs(5))
    }

    fn search(&self, trials: u64, epochs: u32, program: ExternalProgram) -> Search<Assignment> {
        let cpu = Device::new(Place::Cpu { index: 0 }, 1);
        let search = Search::new([quality()], trials, Epoch(epochs)).max_retries(0).folder(self.path("search"));
        let program = std::sync::Arc::new(program);
        search
            .sampler(|| RandomSampler::new(space().into()))
            .trainers([cpu], move |_| Ok(CommandTrainer::new(program.clone())))
    }

    fn log(&self, trial: u64) -> String {
        std::fs::read_to_string(self.path("logs").join(format!("{trial}.log"))).unwrap_or_default()
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.path("file")).unwrap_or_default()
    }

    /// Nothing is left of the attempts' folders.
    fn assert_tidy(&self) {
        let left: Vec<_> = std::fs::read_dir(self.path("programs")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn quality() -> Objective {
    Objective::maximise("quality")
}

fn space() -> ParameterSpace {
    serde_json::from_str(r#"{"hyperparameters": [{"key": "lr", "type": "FLOAT_EXP", "range": [1e-4, 1]}]}"#).unwrap()
}

fn failure(outcome: &SearchOutcome<Assignment>, trial: u64) -> FailureReason {
    match outcome.state.trial(TrialId(trial)).unwrap().outcome() {
        Some(Outcome::Failed { reason }) => reason.clone(),
        other => panic!("trial {trial}: {other:?}"),
    }
}

fn is_alive(pid: &str) -> bool {
    // A zombie is dead, too.
    std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_is_given_its_job_and_its_reports_files_and_notes_arrive() {
    let bench = Bench::new();
    let script = r#"
        read job
        [ "$job" = "$(cat "$SPNAS_JOB")" ] || exit 9
        echo "$job" >"$file"
        echo "devices:$CUDA_VISIBLE_DEVICES. threads:$OMP_NUM_THREADS" >&2
        echo '{"note": {"params": 7}}'
        echo
        printf one >"$SPNAS_FOLDER/c"
        echo '{"epoch": 1, "metrics": {"quality": 0.25, "loss": 3}, "checkpoint": "c"}'
        echo '{"epoch": 2, "metrics": {"quality": 0.5, "loss": 2}}'
        printf trained >"$SPNAS_FOLDER/w"
        echo '{"done": {"quality": 0.75}, "weights": "w"}'
    "#;
    let search = bench.search(1, 2, bench.program(script)).start().unwrap();
    let weights = search.weights().clone();
    let outcome = search.wait().unwrap();
    let best = &outcome.front[0];
    assert_eq!(best.metrics["quality"].get(), 0.75);
    assert_eq!(best.metrics["loss"].get(), 2.0, "what the last report measured stays");
    assert_eq!(*weights.get(best.weights.as_ref().unwrap()).unwrap(), b"trained");
    let job: serde_json::Value = serde_json::from_str(&bench.file()).unwrap();
    assert_eq!(job["candidate"]["lr"], best.candidate.number("lr").unwrap());
    let told = [&job["protocol"], &job["trial"], &job["attempt"], &job["epochs"], &job["epoch"], &job["micro_batches"]];
    assert_eq!(told.map(|value| value.as_u64().unwrap()), [1, 1, 1, 2, 0, 1]);
    assert_eq!((job["device"].as_str(), job["place"].as_str()), (Some("cpu"), Some("cpu:0")));
    assert!(job["checkpoint"].is_null() && job["parent"].is_null() && job["seed"].is_u64(), "{job}");
    assert_eq!(bench.log(1), "devices:. threads:1\n");
    let mut rows = outcome.journal.read_all().map(|row| Transition::from_row(&row.unwrap()).unwrap());
    assert!(rows.any(|row| matches!(&row.event, Event::Noted(facts) if facts.0["params"] == 7)));
    bench.assert_tidy();
}

#[test]
fn every_way_in_which_a_program_can_fail_is_told_with_the_trial_and_the_line() {
    type Is = fn(&FailureReason) -> bool;
    let other: Is = |reason| matches!(reason, FailureReason::Other { .. });
    let memory: Is = |reason| matches!(reason, FailureReason::OutOfMemory { .. });
    let data: Is = |reason| matches!(reason, FailureReason::Data { .. });
    let not_finite: Is = |reason| matches!(reason, FailureReason::NotFinite { .. });
    let infeasible: Is = |reason| matches!(reason, FailureReason::Infeasible { .. });
    let report = r#"echo '{"epoch": 1, "metrics": {"quality": 1}}'"#;
    for (script, is, expected) in [
        (
            "echo hello",
            other,
            "trial 1: line 1 of the program's output is no JSON: `hello`; each line on standard output",
        ),
        (&format!("{report}; echo '{{'"), other, "line 2 of the program's output is no JSON"),
        (r#"echo '{"epoc": 1}'"#, other, "line 1 of the program's output says nothing known"),
        (r#"echo '{"epoch": 1, "metric": {}}'"#, other, "unknown field `metric`"),
        (r#"echo '{"epoch": 4, "metrics": {}}'"#, other, "reports epoch 4, where 1 to 3 can follow"),
        (&format!("{report}; {report}"), other, "reports epoch 1, where 2 to 3 can follow"),
        (r#"echo '{"epoch": 1, "metrics": {"loss": NaN}}'"#, not_finite, "metric `loss` is not a finite number"),
        (r#"echo '{"epoch": 1, "metrics": {}, "checkpoint": "none.pt"}'"#, data, "`checkpoint`: cannot read"),
        (r#"echo '{"done": {"quality": 1}, "weights": "none.pt"}'"#, data, "`weights`: cannot read"),
        (
            r#"mkfifo "$file"; echo '{"epoch": 1, "metrics": {}, "checkpoint": "'"$file"'"}'; sleep 60"#,
            data,
            "it is no regular file",
        ),
        (r#"echo '{"done": {"quality": 1}, "weights": "/dev/zero"}'"#, data, "it is no regular file"),
        (r#"echo '{"done": {"quality": 1e999}}'"#, not_finite, "metric `quality` is not a finite number"),
        (r#"echo '{"done": {"accuracy": 1}}'"#, other, "no metric `quality` was reported (reported: accuracy)"),
        ("head -c 2000000 /dev/zero", other, "has more than 1048576 bytes"),
        ("exit 0", other, "trial 1: the program exited with code 0 after line 0 without a line `done`"),
        (&format!("{report}; echo KeyError: lr >&2; exit 3"), other, "exited with code 3 after line 1: KeyError: lr"),
        ("kill -SEGV $$", other, "was ended by SIGSEGV (a segmentation fault"),
        // Nobody but the kernel's killer, which the kernel counts, makes a kill one for memory.
        ("kill -KILL $$", other, "trial 1: the program was ended by SIGKILL"),
        ("exit 137", other, "exited with code 137"),
        ("echo 'torch.OutOfMemoryError: CUDA out of memory.' >&2; exit 1", memory, "CUDA out of memory"),
        (
            r#"echo '{"error": "out_of_memory", "message": "batch 64"}'; exit 1"#,
            memory,
            "line 1 of the program's output: batch 64",
        ),
        (r#"echo '{"error": "infeasible", "message": "12 ms"}'"#, infeasible, "12 ms"),
        (r#"echo '{"error": "data", "message": "no file x"}'"#, data, "no file x"),
        (r#"echo '{"error": "no such layer"}'"#, other, "line 1 of the program's output: no such layer"),
        ("exec >&-; sleep 60", other, "closed its output after line 0 without a line `done`, and was killed"),
    ] {
        let bench = Bench::new();
        let program = bench.program(script).grace(Duration::from_millis(300));
        let outcome = bench.search(1, 3, program).run().unwrap();
        let reason = failure(&outcome, 1);
        assert!(is(&reason) && reason.to_string().contains(expected), "{script}\n{reason:?}\n{reason}");
        bench.assert_tidy();
    }
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let bench = Bench::new();
    let program = ExternalProgram::new("/nowhere/trainer", ["x"], bench.path("programs"));
    let outcome = bench.search(1, 1, program).run().unwrap();
    let reason = failure(&outcome, 1).to_string();
    assert!(reason.starts_with("trial 1: cannot start `/nowhere/trainer`: "), "{reason}");
}

#[test]
fn silence_beyond_the_limit_ends_a_program_and_any_word_is_a_sign_of_life() {
    let bench = Bench::new();
    let done = r#"echo '{"done": {"quality": 1}}'"#;
    let script = format!(
        "for i in 1 2 3 4 5 6; do sleep 0.2; echo alive >&2; done\n case $SPNAS_JOB in *trial_1_*) {done};; *) sleep 60;; esac"
    );
    let program = bench.program(&script).silence(Duration::from_millis(900));
    let outcome = bench.search(2, 1, program).run().unwrap();
    assert_eq!(outcome.counts.finished, 1);
    let reason = failure(&outcome, 2).to_string();
    assert!(reason.contains("trial 2: the program said nothing for 0.9 s after line 0"), "{reason}");
}

/// A rule that gives every first report this verdict.
fn rule(mode: AshaMode, epochs: u32) -> impl StoppingRule {
    Asha::new(AshaSpec { eta: 2, min_epochs: Epoch(1), max_epochs: Epoch(epochs), mode }).unwrap()
}

#[test]
fn early_stopping_ends_a_program_with_all_that_it_started() {
    let bench = Bench::new();
    // The second trial is worse than the first and stops; it does not listen to SIGTERM, and has a child.
    let script = r#"
        trap '' TERM
        read job
        case "$job" in *'"trial":1,'*) echo '{"epoch": 1, "metrics": {"quality": 2}}'; echo '{"done": {"quality": 2}}'; exit;; esac
        sleep 300 &
        echo "$$ $!" >"$file"
        echo '{"epoch": 1, "metrics": {"quality": 1}}'
        while :; do sleep 300; done
    "#;
    let program = bench.program(script).grace(Duration::from_millis(300));
    let outcome = bench.search(2, 4, program).stopping(rule(AshaMode::Stop, 4), quality()).run().unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.stopped), (1, 1));
    let pids = bench.file();
    assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
    wait_until("its child goes on", || pids.split_whitespace().all(|pid| !is_alive(pid)));
    bench.assert_tidy();
}

#[test]
fn a_program_that_asks_is_answered_and_may_end_by_itself() {
    let bench = Bench::new();
    let script = r#"
        read job
        case "$job" in *'"trial":1,'*) quality=2;; *) quality=1;; esac
        for epoch in 1 2; do
            echo "{\"epoch\": $epoch, \"metrics\": {\"quality\": $quality}, \"ask\": true}"
            read answer
            echo "$epoch $answer" >&2
            case "$answer" in *stop*) exit 0;; esac
        done
        echo "{\"done\": {\"quality\": $quality}}"
    "#;
    let outcome = bench.search(2, 2, bench.program(script)).stopping(rule(AshaMode::Stop, 2), quality()).run().unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.stopped), (1, 1));
    let continued = r#"{"verdict":"continue"}"#;
    assert_eq!(bench.log(1), format!("1 {continued}\n2 {continued}\n"));
    assert_eq!(bench.log(2), "1 {\"verdict\":\"stop\"}\n");
}

#[test]
fn a_paused_trial_goes_on_from_its_checkpoint_and_a_child_from_its_parents_weights() {
    let bench = Bench::new();
    let script = r#"
        read job
        field() { printf '%s' "$job" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
        epoch=$(printf '%s' "$job" | sed -n 's/.*"epoch":\([0-9]*\).*/\1/p')
        checkpoint=$(field checkpoint)
        [ -z "$checkpoint" ] || echo "$SPNAS_JOB from $epoch: $(cat "$checkpoint")" >>"$file"
        weights=$(field weights)
        [ -z "$weights" ] || echo "inherits $(cat "$weights")" >>"$file"
        while [ "$epoch" -lt 2 ]; do
            epoch=$((epoch + 1))
            printf "after $epoch" >"$SPNAS_FOLDER/c$epoch"
            echo "{\"epoch\": $epoch, \"metrics\": {\"quality\": 1}, \"checkpoint\": \"$SPNAS_FOLDER/c$epoch\"}"
        done
        printf weights >"$SPNAS_FOLDER/w"
        echo '{"done": {"quality": 1}, "weights": "w"}'
    "#;
    let evolution = AgingEvolution::new(space().into(), EvolutionSpec { population: 1, tournament: 1 }).unwrap();
    let search = bench.search(3, 2, bench.program(script)).sampler(move || evolution.clone());
    let outcome = search.stopping(rule(AshaMode::Promote, 2), quality()).run().unwrap();
    assert!(outcome.counts.finished >= 1, "{:?}", outcome.counts);
    let file = bench.file();
    assert!(file.contains("from 1: after 1"), "{file}");
    assert!(file.contains("inherits weights"), "{file}");
    bench.assert_tidy();
}

#[test]
fn a_stopped_search_ends_its_program_at_once_and_resumes_from_the_checkpoint() {
    let bench = Bench::new();
    let script = r#"
        read job
        case "$job" in
            *'"epoch":1,'*) echo '{"epoch": 2, "metrics": {"quality": 1}}'; echo '{"done": {"quality": 1}}'; exit;;
        esac
        echo $$ >"$file"
        printf half >"$SPNAS_FOLDER/c"
        echo '{"epoch": 1, "metrics": {"quality": 0}, "checkpoint": "c"}'
        sleep 300
    "#;
    let search = || bench.search(1, 2, bench.program(script));
    let handle = search().start().unwrap();
    let mut transitions = handle.watch();
    wait_until("it does not report", || {
        std::iter::from_fn(|| transitions.try_recv().ok()).any(|transition| transition.event.kind() == "reported")
    });
    handle.remote().send(Command::Stop);
    assert_eq!(handle.wait().unwrap().end, SearchEnd::Stopped);
    assert!(!is_alive(&bench.file()));
    let outcome = search().resume().unwrap().wait().unwrap();
    assert_eq!((outcome.end, outcome.counts.finished), (SearchEnd::Complete, 1));
}
