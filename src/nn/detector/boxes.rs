//! Boxes `[…, 4]` as `x1 y1 x2 y2` in pixels: overlap, clipping, and the regression code of R-CNN (Girshick et al. 2014,
//! app. C). Everything on the boxes' device.

use tch::Tensor;

use crate::nn::Result;

/// `ln(1000 / 16)`: torchvision's limit on the log of a size ratio, against overflow in `exp`.
const LARGEST_LOG_RATIO: f64 = 4.135_166_556_742_356;

/// Areas of boxes `[…, 4]`: `[…]`.
pub(crate) fn area(boxes: &Tensor) -> Result<Tensor> {
    let sides = boxes.f_narrow(-1, 2, 2)?.f_sub(&boxes.f_narrow(-1, 0, 2)?)?;
    Ok(sides.f_select(-1, 0)?.f_mul(&sides.f_select(-1, 1)?)?)
}

/// Intersection over union of `a` `[…, M, 4]` with `b` `[…, K, 4]` (leading dimensions broadcast): `[…, M, K]`. Side by
/// side and in place, so that few tensors of the result's size are alive at once.
pub(crate) fn iou(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let overlap = |side: i64| -> Result<Tensor> {
        let row = |at: i64| a.f_select(-1, at)?.f_unsqueeze(-1);
        let column = |at: i64| b.f_select(-1, at)?.f_unsqueeze(-2);
        let low = row(side)?.f_maximum(&column(side)?)?;
        Ok(row(side + 2)?.f_minimum(&column(side + 2)?)?.f_sub_(&low)?.f_clamp_min_(0.0)?)
    };
    let mut intersection = overlap(0)?.f_mul_(&overlap(1)?)?;
    let union = area(a)?.f_unsqueeze(-1)?.f_add(&area(b)?.f_unsqueeze(-2)?)?.f_sub_(&intersection)?;
    Ok(intersection.f_div_(&union)?)
}

/// Boxes `[N, K, 4]` cut to their images; `limits` `[N, 1, 4]` is `width height width height` of each.
pub(crate) fn clip(boxes: &Tensor, limits: &Tensor) -> Result<Tensor> {
    Ok(boxes.f_clamp_min(0.0)?.f_minimum(limits)?)
}

/// Whether both sides of each box `[…, 4]` are at least `side` long: `[…]` bool.
pub(crate) fn at_least(boxes: &Tensor, side: f64) -> Result<Tensor> {
    let sides = boxes.f_narrow(-1, 2, 2)?.f_sub(&boxes.f_narrow(-1, 0, 2)?)?;
    Ok(sides.f_amin([-1i64], false)?.f_ge(side)?)
}

/// Centres and sizes of boxes `[…, 4]`: two tensors `[…, 2]`.
fn centres_and_sizes(boxes: &Tensor) -> Result<(Tensor, Tensor)> {
    let low = boxes.f_narrow(-1, 0, 2)?;
    let sizes = boxes.f_narrow(-1, 2, 2)?.f_sub(&low)?;
    let centres = low.f_add(&sizes.f_mul_scalar(0.5)?)?;
    Ok((centres, sizes))
}

/// The box regression code: offsets of the centre in units of the reference's size, logs of the size ratios, each
/// times a weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoxCode {
    /// Weights of the centre and of the size.
    pub(crate) weights: [f64; 2],
}

impl BoxCode {
    /// Codes `[…, 4]` of `boxes` against `references`, both `[…, 4]`.
    pub(crate) fn encode(self, boxes: &Tensor, references: &Tensor) -> Result<Tensor> {
        let (from, from_size) = centres_and_sizes(references)?;
        let (to, to_size) = centres_and_sizes(boxes)?;
        let offset = to.f_sub(&from)?.f_mul_scalar(self.weights[0])?.f_div(&from_size)?;
        let ratio = to_size.f_div(&from_size)?.f_log()?.f_mul_scalar(self.weights[1])?;
        Ok(Tensor::f_cat(&[offset, ratio], -1)?)
    }

    /// Boxes `[…, 4]` of `codes` against `references`; leading dimensions broadcast.
    pub(crate) fn decode(self, codes: &Tensor, references: &Tensor) -> Result<Tensor> {
        let (from, from_size) = centres_and_sizes(references)?;
        let offset = codes.f_narrow(-1, 0, 2)?.f_div_scalar(self.weights[0])?;
        let ratio = codes.f_narrow(-1, 2, 2)?.f_div_scalar(self.weights[1])?.f_clamp_max(LARGEST_LOG_RATIO)?;
        let centres = offset.f_mul(&from_size)?.f_add(&from)?;
        let half = ratio.f_exp()?.f_mul(&from_size)?.f_mul_scalar(0.5)?;
        Ok(Tensor::f_cat(&[centres.f_sub(&half)?, centres.f_add(&half)?], -1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn boxes(rows: &[[f32; 4]]) -> Tensor {
        Tensor::from_slice(&rows.concat()).view((-1, 4))
    }

    #[test]
    fn overlap_of_half_shifted_boxes_is_a_third() {
        let a = boxes(&[[0., 0., 2., 2.], [10., 10., 12., 12.]]);
        let b = boxes(&[[1., 0., 3., 2.]]);
        let overlap = iou(&a, &b).unwrap();
        assert_eq!(overlap.size(), [2, 1]);
        assert!((overlap.double_value(&[0, 0]) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(overlap.double_value(&[1, 0]), 0.0);
    }

    #[test]
    fn decoding_undoes_encoding() {
        let references = boxes(&[[0., 0., 10., 20.], [5., 5., 9., 6.]]);
        let targets = boxes(&[[1., 2., 8., 30.], [4., 4., 12., 9.]]);
        let code = BoxCode { weights: [10.0, 5.0] };
        let back = code.decode(&code.encode(&targets, &references).unwrap(), &references).unwrap();
        assert!((back - targets).abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn a_huge_size_code_stays_finite() {
        let reference = boxes(&[[0., 0., 16., 16.]]);
        let codes = Tensor::from_slice(&[0f32, 0., 1e4, 1e4]).view((1, 4));
        let decoded = BoxCode { weights: [1.0, 1.0] }.decode(&codes, &reference).unwrap();
        assert!((decoded.double_value(&[0, 2]) - 508.0).abs() < 1e-2, "{decoded}");
        assert_eq!(decoded.isfinite().all().to_kind(Kind::Int64).int64_value(&[]), 1);
    }
}
