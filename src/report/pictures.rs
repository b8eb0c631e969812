//! Image files on the page: as `data:` addresses, made smaller where they are large.

use std::io::Cursor;
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, RgbImage};

/// The longest side of an image in the page, in pixels; larger ones are made smaller.
const LONGEST: u32 = 720;

/// An image file of at most so many bytes goes into the page as it is.
const BYTES: usize = 150_000;

/// The image file as a `data:` address.
///
/// # Errors
/// Its name, and why it cannot be read.
pub(crate) fn data_uri(path: &Path) -> Result<String, String> {
    let (name, bytes) = read(path)?;
    let mime = match image::guess_format(&bytes) {
        Ok(ImageFormat::Png) => "image/png",
        Ok(ImageFormat::Jpeg) => "image/jpeg",
        _ => return Err(format!("{name}: neither PNG nor JPEG")),
    };
    if bytes.len() <= BYTES {
        return Ok(format!("data:{mime};base64,{}", base64(&bytes)));
    }
    let image = image::load_from_memory(&bytes).map_err(|error| format!("{name}: {error}"))?;
    let small = if image.width().max(image.height()) > LONGEST {
        image.resize(LONGEST, LONGEST, FilterType::Triangle)
    } else {
        image
    };
    jpeg(&small.to_rgb8()).map_err(|error| format!("{name}: {error}"))
}

/// The pixels of an image file.
///
/// # Errors
/// As [`data_uri`].
pub(crate) fn pixels(path: &Path) -> Result<DynamicImage, String> {
    let (name, bytes) = read(path)?;
    image::load_from_memory(&bytes).map_err(|error| format!("{name}: {error}"))
}

/// Pixels as the `data:` address of a JPEG.
///
/// # Errors
/// Where they cannot be encoded.
pub(crate) fn jpeg(pixels: &RgbImage) -> Result<String, image::ImageError> {
    let mut jpeg = Cursor::new(Vec::new());
    pixels.write_to(&mut jpeg, ImageFormat::Jpeg)?;
    Ok(format!("data:image/jpeg;base64,{}", base64(jpeg.get_ref())))
}

fn read(path: &Path) -> Result<(String, Vec<u8>), String> {
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let bytes = std::fs::read(path).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, bytes))
}

/// Base 64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_in_the_rfcs_test_vectors() {
        let table = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in table {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
