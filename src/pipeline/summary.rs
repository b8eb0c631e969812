//! What full training has brought: each network before and after, beside the network that the pipeline began with.

use serde_json::{Value, json};

use super::PipelineError;
use super::networks::FoundNetwork;
use super::task_folder::{TaskFolder, write_json};

/// Writes `summary.json` of a step that trained networks of an earlier one; `metric` is what they are compared by.
pub(super) fn write(
    folder: &TaskFolder,
    step: &str,
    metric: &str,
    before: &[(u64, Option<f64>)],
) -> Result<(), PipelineError> {
    let reports: Value =
        std::fs::read(folder.reports()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let first =
        reports["_steps_"].as_array().and_then(|steps| steps.first()).and_then(|step| step["step_name"].as_str());
    let start = first.map(|first| json!({"step": first, metric: reports[first][0]["performance"][metric]}));
    let after = |number: u64| {
        let records = reports[step].as_array()?;
        records.iter().find(|record| record["worker_id"] == number).map(|record| record["performance"][metric].clone())
    };
    let networks: Vec<Value> = before
        .iter()
        .map(|(number, before)| json!({"number": number, "before": before, "after": after(*number)}))
        .collect();
    let summary = json!({"metric": metric, "start": start, "networks": networks});
    Ok(write_json(&folder.output(step).join("summary.json"), &summary)?)
}

/// The numbers of networks and what they scored by `metric` before.
pub(super) fn before(found: &[FoundNetwork], metric: &str) -> Vec<(u64, Option<f64>)> {
    found.iter().map(|network| (network.number, network.performance.get(metric).map(|score| score.get()))).collect()
}
