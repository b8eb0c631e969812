//! What a search step searches.

use std::num::NonZeroU32;

use super::SetupError;
use super::network::{self, serial};
use super::training::input_size;
use crate::arch::Architecture;
use crate::arch::cost::{MultiplyAdds, Params};
use crate::arch::limits::{Bounds, Limits};
use crate::arch::mutate::{Mutation, Policy, Probability};
use crate::config as checked;
use crate::search::ceilings::Ceilings;
use crate::search::constraint::Quota;
use crate::search::parallel::{Law, ParallelSpace, Searched};
use crate::search::serial::{SerialSpace, Stuck};

/// What the authors' code and Vega's insert at an expand.
const BLOCKS_PER_EXPAND: u32 = 2;

/// The networks that a search without earlier networks begins with.
pub(crate) fn seeds(step: &checked::SearchStep) -> Vec<Architecture> {
    let desc = &step.model.desc.backbone;
    let seeds =
        step.space.seeds.iter().map(|code| Architecture { neck: step.space.neck.clone(), ..serial(desc, code).into() });
    seeds.collect()
}

/// The space of a search step under a quota.
///
/// # Errors
/// Where a limit is out of range.
pub(crate) fn serial_space(step: &checked::SearchStep, quota: &Quota) -> Result<SerialSpace, SetupError> {
    let algorithm = &step.algorithm;
    let seeds = step.space.seeds.iter().map(|code| serial(&step.model.desc.backbone, code));
    let limits = &algorithm.limits;
    let bounds = |what: &str, least: NonZeroU32, most: NonZeroU32| {
        Bounds::new(least.get() as usize, most.get() as usize)
            .ok_or_else(|| SetupError::Unsupported(format!("search_algorithm: {what}: {least} to {most} is empty")))
    };
    let probability = |ratio: crate::config::Ratio| {
        Probability::new(ratio.get()).ok_or_else(|| SetupError::Unsupported("a ratio is not within 0 to 1".to_owned()))
    };
    Ok(SerialSpace {
        seeds: seeds.collect(),
        mutation: Mutation {
            policy: match algorithm.compat {
                checked::Compat::Paper => Policy::Paper,
                checked::Compat::Vega => Policy::Vega,
            },
            num_mutate: algorithm.mutation.num_mutate.get(),
            expend_ratio: probability(algorithm.mutation.expend_ratio)?,
            add_stage_ratio: probability(algorithm.mutation.add_stage_ratio)?,
            max_stages: limits.max_stages.get() as usize,
            blocks_per_expand: BLOCKS_PER_EXPAND,
        },
        limits: match algorithm.compat {
            checked::Compat::Paper => Limits {
                depth: bounds("depth", limits.min_depth, limits.max_depth)?,
                stages: bounds("stages", limits.min_stages, limits.max_stages)?,
            },
            checked::Compat::Vega => Limits::NONE,
        },
        ceilings: ceilings(step, &step.model.desc, quota)?,
        stuck: step.reignition.as_ref().map(|stuck| Stuck {
            n_stuck: stuck.n_stuck.get(),
            max_reignitions: stuck.max_reignitions.get(),
            stem: stuck.how.stem,
        }),
    })
}

/// The space of a parallel search under a quota that begins with networks of these backbones, otherwise like `network`.
///
/// # Errors
/// An input size that multiply-adds cannot be counted for.
pub(crate) fn parallel_space(
    step: &checked::SearchStep,
    network: &checked::Network,
    seeds: Vec<Architecture>,
    quota: &Quota,
) -> Result<ParallelSpace, SetupError> {
    let checked::Policy::Parallel { max_sub_networks, share_weights, groups } = &step.algorithm.policy else {
        return Err(SetupError::Unsupported("search_algorithm.type is not SpNasP".to_owned()));
    };
    // Vega's parallel phase draws the order of the neck and adds no sub-network.
    let (searched, law) = match step.algorithm.compat {
        checked::Compat::Paper => (Searched::SubNetworks, Law::default()),
        checked::Compat::Vega if matches!(step.model.desc.neck, checked::Neck::ParallelFpn { .. }) => {
            (Searched::Both, Law::Fixed)
        }
        checked::Compat::Vega => (Searched::SubNetworks, Law::Fixed),
    };
    Ok(ParallelSpace {
        seeds: seeds.into_iter().map(|seed| Architecture { parallel: None, ..seed }).collect(),
        searched,
        groups: groups.clone(),
        max_extra: max_sub_networks.get(),
        share_weights: *share_weights,
        law,
        ceilings: ceilings(step, network, quota)?,
    })
}

fn ceilings(step: &checked::SearchStep, network: &checked::Network, quota: &Quota) -> Result<Ceilings, SetupError> {
    Ok(Ceilings {
        input: input_size(step.evaluator.input_size)?,
        params: step.algorithm.limits.max_params.map(Params),
        multiply_adds: step.algorithm.limits.max_flops.map(MultiplyAdds),
        activation_bytes: None,
        quota: quota.clone(),
        shape: network::shape(network),
    })
}
