//! The 1,797 handwritten digits of the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak), as
//! scikit-learn's wheel carries them (BSD): 64 pixels within 0 to 16 and the label, a row each, gzipped.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::super::DataError;

/// Where the table is inside the wheel, which is a zip archive.
const IN_WHEEL: &str = "sklearn/datasets/data/digits.csv.gz";
/// Side of a digit's raster.
pub(super) const SIDE: usize = 8;

/// Where the digits come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DigitSource {
    /// A scikit-learn wheel.
    Wheel(PathBuf),
    /// The table itself, `digits.csv.gz`.
    Csv(PathBuf),
}

impl DigitSource {
    fn path(&self) -> &Path {
        match self {
            Self::Wheel(path) | Self::Csv(path) => path,
        }
    }
}

/// A handwritten digit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Digit {
    /// Ink within 0 to 1, row by row.
    pub(super) ink: [f32; SIDE * SIDE],
    /// 0 to 9.
    pub(super) value: u8,
}

/// Reads all digits, in the table's order.
pub(super) fn read(source: &DigitSource) -> Result<Vec<Digit>, DataError> {
    let path = source.path();
    let read_error = |source| DataError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let mut table = String::new();
    match source {
        DigitSource::Csv(_) => GzDecoder::new(file).read_to_string(&mut table).map_err(read_error)?,
        DigitSource::Wheel(_) => {
            let mut archive = zip::ZipArchive::new(file).map_err(|error| read_error(error.into()))?;
            let entry = archive.by_name(IN_WHEEL).map_err(|error| {
                let problem = format!("{IN_WHEEL}: {error}; is this a scikit-learn wheel?");
                read_error(std::io::Error::other(problem))
            })?;
            GzDecoder::new(entry).read_to_string(&mut table).map_err(read_error)?
        }
    };
    let wrong = |line, problem| DataError::Text { path: path.to_owned(), line, problem };
    let digits: Vec<Digit> = (1..)
        .zip(table.lines())
        .map(|(line, row)| parse(row).map_err(|problem| wrong(line, problem)))
        .collect::<Result<_, _>>()?;
    if digits.len() < 100 {
        return Err(wrong(1, format!("only {} digits; the table is cut off", digits.len())));
    }
    Ok(digits)
}

fn parse(row: &str) -> Result<Digit, String> {
    let numbers = row.split(',').map(|field| field.trim().parse::<f32>()).collect::<Result<Vec<f32>, _>>();
    let numbers = numbers.map_err(|error| format!("not a row of numbers: {error}"))?;
    let Some((&value, pixels)) = numbers.split_last() else { return Err("an empty row".to_owned()) };
    let ink: [f32; SIDE * SIDE] =
        pixels.try_into().map_err(|_| format!("{} fields instead of 65", pixels.len() + 1))?;
    if !(0.0..=9.0).contains(&value) || ink.iter().any(|pixel| !(0.0..=16.0).contains(pixel)) {
        return Err("pixels must lie within 0 to 16 and the label within 0 to 9".to_owned());
    }
    Ok(Digit { ink: ink.map(|pixel| pixel / 16.0), value: value as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_64_pixels_and_a_label() {
        let row = |label: &str| format!("{},{label}", vec!["16"; 64].join(","));
        assert_eq!(parse(&row("7")).unwrap(), Digit { ink: [1.0; 64], value: 7 });
        for bad in [row("11"), row("x"), "1,2,3".to_owned(), String::new(), row("7").replacen("16", "17", 1)] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
