//! Hypervolume.
/// Error.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HypervolumeError {
    /// Wrong arity.
    #[error("a point has {got} costs where the reference point has {expected}")]
    Arity {
        /// Of the reference point.
        expected: usize,
        /// Of the point.
        got: usize,
    },
    /// NaN or infinite.
    #[error("{0} is not a finite number")]
    NotFinite(f64),
}
/// Exact hypervolume.
pub fn hypervolume<P: AsRef<[f64]>>(_points: &[P], _reference: &[f64]) -> Result<f64, HypervolumeError> {
    todo!()
}
/// Hypervolume over time.
#[derive(Debug, Clone)]
pub struct HypervolumeTrack {}
impl HypervolumeTrack {
    /// Nothing covered yet.
    pub fn new(_reference: Vec<f64>) -> Result<Self, HypervolumeError> {
        todo!()
    }
    /// Adds a point; returns what it gained.
    pub fn insert(&mut self, _costs: &[f64]) -> Result<f64, HypervolumeError> {
        todo!()
    }
    /// The hypervolume now.
    pub fn value(&self) -> f64 {
        todo!()
    }
}
