//! A file of weights, whatever its format. In: a path. Out: its tensors. What the file is, its content says, not its
//! name.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use super::{Tensors, WeightsError, pth, safetensors};

/// Named tensors of a safetensors or a `.pth` file, on the host.
///
/// # Errors
/// [`WeightsError::File`] names the file and says what is wrong with it.
pub fn read(path: &Path) -> Result<Tensors, WeightsError> {
    let named = |error: WeightsError| WeightsError::File { path: path.to_owned(), source: Box::new(error) };
    let mapped = Mapped::open(path).map_err(|error| named(error.into()))?;
    if is_safetensors(&mapped) {
        return safetensors::from_bytes(&mapped).map(|(tensors, _)| tensors).map_err(named);
    }
    if pth::is_pth(&mapped) {
        let invalid = |flaw| pth::PthError::Invalid { path: path.to_owned(), flaw };
        return Ok(pth::from_bytes(&mapped).map_err(invalid)?);
    }
    Err(WeightsError::UnknownFormat(path.to_owned()))
}

/// A safetensors file starts with the header's length, 8 bytes, and the header, a JSON object. A `.pth` file has
/// something else at the place of the brace.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && !pth::is_pth(bytes)
}

/// A file's bytes, mapped rather than read: each page comes into memory when it is looked at.
#[derive(Debug)]
pub(super) enum Mapped {
    /// An empty file cannot be mapped.
    Empty,
    /// Its bytes.
    Bytes(Mmap),
}

impl Mapped {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // Before it is opened: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"));
        }
        if metadata.len() == 0 {
            return Ok(Self::Empty);
        }
        let file = File::open(path)?;
        // SAFETY: the map is read only and private to this process. Another process that changes the file meanwhile can
        // falsify what is read, and one that cuts it ends this process by a signal; both are excluded by the contract
        // of the callers, that the file stays as it is while it is read.
        #[expect(unsafe_code, reason = "mapping a file is unsafe in any crate")]
        unsafe { Mmap::map(&file) }.map(Self::Bytes)
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Bytes(map) => map,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Metadata;

    #[test]
    fn the_content_decides_and_not_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/pth");
        let small = std::fs::read(golden.join("small.pth")).unwrap();
        let legacy = std::fs::read(golden.join("small_legacy.pth")).unwrap();
        let tensors = [("a".to_owned(), tch::Tensor::from_slice(&[1f32, 2.0]))].into();
        let plain = safetensors::tensors_to_bytes(&tensors, &Metadata::new()).unwrap();
        // A header of 640 bytes: its length starts with 80 02 as a pickle does.
        let long = Metadata::from([("note".to_owned(), "x".repeat(640 - 85))]);
        let like_a_pickle = safetensors::tensors_to_bytes(&tensors, &long).unwrap();
        assert_eq!(like_a_pickle[..2], [0x80, 2]);
        for bytes in [small, legacy, plain, like_a_pickle] {
            let path = folder.path().join("weights.bin");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Vec::<f32>::try_from(&read(&path).unwrap()["a"]).unwrap(), [1.0, 2.0]);
        }
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.bin");
        let complaint = || {
            let text = read(&path).unwrap_err().to_string();
            text.strip_prefix(&format!("{}: ", path.display())).unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        assert!(complaint().starts_with("No such file"));
        for bytes in [&b""[..], b"weights", &[0; 100]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(complaint(), "neither a safetensors file nor one of torch.save");
        }
        std::fs::write(&path, b"\xff\0\0\0\0\0\0\0{}").unwrap();
        assert!(complaint().starts_with("not a readable safetensors file"));
        std::fs::write(&path, b"PK\x03\x04").unwrap();
        assert_eq!(complaint(), "byte 0: zip archive: the file is cut short: no directory");
    }
}
