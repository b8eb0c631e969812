//! What both examples design: a round steel beam, fixed at one end and loaded with 1 kN at the other. It should be light
//! and bend little; it must not break. Source: Deb 2001, "Multi-Objective Optimization Using Evolutionary Algorithms",
//! section 1.2, the cantilever.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::VIOLATION;
use spnas_actors::{Crossover, Encode, Feature, FeatureKind, Metrics, Objective, SearchSpace, TrialError, metrics};

/// A beam, in millimetres.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beam {
    pub(crate) diameter: u32,
    pub(crate) length: u32,
}

/// Diameters of 10 to 50 mm and lengths of 200 to 1,000 mm.
#[derive(Debug, Clone)]
pub(crate) struct Beams;

impl SearchSpace for Beams {
    type Candidate = Beam;

    fn sample(&self, rng: &mut SearchRng) -> Beam {
        Beam { diameter: rng.random_range(10..=50), length: rng.random_range(200..=1000) }
    }

    fn mutate(&self, parent: &Beam, rng: &mut SearchRng) -> Beam {
        let Beam { diameter, length } = *parent;
        if rng.random_bool(0.5) {
            Beam { diameter: rng.random_range(diameter.saturating_sub(4).max(10)..=(diameter + 4).min(50)), length }
        } else {
            Beam { diameter, length: rng.random_range(length.saturating_sub(80).max(200)..=(length + 80).min(1000)) }
        }
    }

    fn key(&self, beam: &Beam) -> String {
        format!("{} x {}", beam.diameter, beam.length)
    }
}

impl Crossover for Beams {
    fn cross(&self, one: &Beam, other: &Beam, rng: &mut SearchRng) -> Beam {
        let (one, other) = if rng.random_bool(0.5) { (one, other) } else { (other, one) };
        Beam { diameter: one.diameter, length: other.length }
    }
}

impl Encode for Beams {
    fn features(&self) -> Vec<Feature> {
        ["diameter", "length"].map(|name| Feature { name: name.to_owned(), kind: FeatureKind::Ordered }).into()
    }

    fn encode(&self, beam: &Beam) -> Vec<f64> {
        vec![f64::from(beam.diameter), f64::from(beam.length)]
    }
}

/// What is optimised.
pub(crate) fn objectives() -> [Objective; 2] {
    [Objective::minimise("weight"), Objective::minimise("deflection")]
}

/// What the load does to a beam.
pub(crate) enum Tested {
    Holds(Metrics),
    /// It is of no use, and why; by how much, as [`VIOLATION`].
    Breaks(String, Metrics),
}

/// Loads the beam.
pub(crate) fn test(beam: &Beam) -> Result<Tested, TrialError> {
    const LOAD: f64 = 1_000.0; // N
    const MODULUS: f64 = 207_000.0; // MPa
    const DENSITY: f64 = 7_800e-9; // kg / mm^3
    const STRENGTH: f64 = 300.0; // MPa
    let (diameter, length) = (f64::from(beam.diameter), f64::from(beam.length));
    let pi = std::f64::consts::PI;
    let weight = DENSITY * pi * diameter.powi(2) / 4.0 * length;
    let deflection = 64.0 * LOAD * length.powi(3) / (3.0 * MODULUS * pi * diameter.powi(4));
    let stress = 32.0 * LOAD * length / (pi * diameter.powi(3));
    if stress <= STRENGTH {
        return Ok(Tested::Holds(metrics([("weight", weight), ("deflection", deflection)])?));
    }
    let why = format!("a stress of {stress:.0} MPa breaks it, {STRENGTH} is the most it bears");
    Ok(Tested::Breaks(why, metrics([(VIOLATION, stress / STRENGTH - 1.0)])?))
}
