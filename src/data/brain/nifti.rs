//! Reads a volume in NIfTI-1 format: a header of 348 bytes, then the voxels, gzipped together. Only what the template
//! has: three dimensions, a byte a voxel. Format: <https://nifti.nimh.nih.gov/nifti-1>, `nifti1.h`.

use std::io::Read;

use flate2::read::GzDecoder;

/// Bytes of the header.
const HEADER: usize = 348;
/// `DT_UINT8`.
const BYTES: u16 = 2;

/// A byte a voxel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// Voxels along each axis; the first runs fastest.
    pub(super) sides: [usize; 3],
    /// As many as the product of `sides`.
    voxels: Vec<u8>,
}

impl Volume {
    /// Reads a gzipped file; the error says what is wrong with it.
    pub(super) fn read(compressed: impl Read) -> Result<Self, String> {
        let mut file = GzDecoder::new(compressed);
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(|error| format!("no header of {HEADER} bytes: {error}"))?;
        let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        if usize::from(number(0)) != HEADER || header[344..] != *b"n+1\0" {
            return Err("not a little-endian NIfTI-1 file with its voxels in the same file".to_owned());
        }
        let (dimensions, kind) = (number(40), number(70));
        if dimensions != 3 || kind != BYTES {
            return Err(format!("{dimensions} dimensions of voxel type {kind}; only 3 of type {BYTES} are read"));
        }
        let sides = [number(42), number(44), number(46)].map(usize::from);
        let start = f32::from_le_bytes([header[108], header[109], header[110], header[111]]);
        // The format demands at least 352 where the voxels are in the same file; some writers say 0.
        let start = (start.clamp(352.0, 65536.0) as usize).max(HEADER + 4);
        let count = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        let count = count.ok_or("it is too large")?;
        let mut skipped = vec![0; start - HEADER];
        file.read_exact(&mut skipped).map_err(|error| format!("cut off before the voxels: {error}"))?;
        // Grows with what is there, whatever the header promises.
        let mut voxels = Vec::new();
        file.take(count as u64).read_to_end(&mut voxels).map_err(|error| error.to_string())?;
        if voxels.len() != count {
            return Err(format!("{} voxels instead of {count}: the file is cut off", voxels.len()));
        }
        Ok(Self { sides, voxels })
    }

    /// The voxels at one place of the last axis, the first axis running fastest.
    pub(super) fn slice(&self, at: usize) -> &[u8] {
        let [width, height, _] = self.sides;
        let area = width * height;
        self.voxels.get(at * area..(at + 1) * area).unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// A file as it lies in the wheel.
    pub(in super::super) fn file(sides: [u16; 3], voxels: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + 4];
        bytes[..2].copy_from_slice(&348u16.to_le_bytes());
        for (at, value) in [(40, 3), (42, sides[0]), (44, sides[1]), (46, sides[2]), (70, BYTES)] {
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        bytes[344..348].copy_from_slice(b"n+1\0");
        bytes.extend(voxels);
        compressed(&bytes)
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_volume_comes_back_slice_by_slice() {
        let voxels: Vec<u8> = (0..24).collect();
        let volume = Volume::read(file([2, 3, 4], &voxels).as_slice()).unwrap();
        assert_eq!((volume.sides, volume.slice(1)), ([2, 3, 4], [6, 7, 8, 9, 10, 11].as_slice()));
        assert!(volume.slice(4).is_empty());
    }

    #[test]
    fn other_files_and_cut_ones_say_what_they_are() {
        let error = |bytes: &[u8]| Volume::read(bytes).unwrap_err();
        assert!(error(b"text").contains("no header"));
        assert!(error(&compressed(&[0; 400])).contains("not a little-endian NIfTI-1 file"));
        assert_eq!(error(&file([9, 9, 9], &[0; 700])), "700 voxels instead of 729: the file is cut off");
        let whole = file([4, 4, 4], &[7; 64]);
        assert!(Volume::read(&whole[..whole.len() - 12]).is_err());
    }
}
