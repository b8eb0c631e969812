//! Spellings of the same tensor. In: a name as torchvision, in any of its versions, or Vega wrote it. Out: today's
//! torchvision name as the detector carries it (`nn::detector`).

/// Prefixes that training wrappers put before every name (`DataParallel`: `module.`).
const WRAPPERS: [&str; 2] = ["module.", "model."];

/// Where the backbone is in the detector.
pub(super) const BODY: &str = "backbone.body.";

/// The wrappers' prefix that all names have; empty where there is none.
pub(super) fn wrapper_prefix<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut prefix = String::new();
    // Each wrapper at most a few times: names end.
    'longer: loop {
        for wrapper in WRAPPERS {
            let longer = format!("{prefix}{wrapper}");
            if names.clone().next().is_some() && names.clone().all(|name| name.starts_with(&longer)) {
                prefix = longer;
                continue 'longer;
            }
        }
        return prefix;
    }
}

/// The detector's name of a tensor whose wrappers' prefix is gone.
pub(super) fn spelling(name: &str) -> String {
    let name = pyramid_and_proposals(name);
    if let Some(rest) = name.strip_prefix(BODY) {
        return format!("{BODY}{}", residual_layer(rest));
    }
    // Classifiers: torchvision's body stands at the root, Vega's under `backbone.`.
    let rest = name.strip_prefix("backbone.").unwrap_or(&name);
    if is_body(rest) { format!("{BODY}{}", residual_layer(rest)) } else { name }
}

/// torchvision before 0.13 had bare convolutions where `Conv2dNormActivation` stands now.
fn pyramid_and_proposals(name: &str) -> String {
    if let Some(end @ ("weight" | "bias")) = name.strip_prefix("rpn.head.conv.") {
        return format!("rpn.head.conv.0.0.{end}");
    }
    if let ["backbone", "fpn", blocks @ ("inner_blocks" | "layer_blocks"), level, end @ ("weight" | "bias")] =
        name.split('.').collect::<Vec<_>>()[..]
    {
        return format!("backbone.fpn.{blocks}.{level}.0.{end}");
    }
    name.to_owned()
}

/// Whether a name without prefix is one of a residual network's body.
fn is_body(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    let numbered = |stem: &str| first.strip_prefix(stem).is_some_and(is_number);
    first == "layers" || numbered("conv") || numbered("bn") || numbered("layer")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Vega's `layers.S.B.block.0.{convK, batchK}` and `layers.S.B.block.1.{conv1, batch}` (the shortcut) as torchvision's
/// `layer{S+1}.B.{convK, bnK}` and `layer{S+1}.B.downsample.{0, 1}`; anything else as it is.
fn residual_layer(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let ["layers", stage, block, "block", branch, layer, ref end @ ..] = parts[..] else { return name.to_owned() };
    let Some(stage) = stage.parse::<u32>().ok().and_then(|stage| stage.checked_add(1)) else {
        return name.to_owned();
    };
    let layer = match (branch, layer) {
        ("0", layer) => match layer.strip_prefix("batch") {
            Some(at) => format!("bn{at}"),
            None => layer.to_owned(),
        },
        ("1", "conv" | "conv1") => "downsample.0".to_owned(),
        ("1", "batch" | "batch1") => "downsample.1".to_owned(),
        _ => return name.to_owned(),
    };
    format!("layer{stage}.{block}.{layer}.{}", end.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_becomes_todays() {
        let cases = [
            ("backbone.fpn.inner_blocks.3.weight", "backbone.fpn.inner_blocks.3.0.weight"),
            ("backbone.fpn.layer_blocks.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
            ("backbone.fpn.inner_blocks.1.0.bias", "backbone.fpn.inner_blocks.1.0.bias"),
            ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
            ("rpn.head.conv.0.0.weight", "rpn.head.conv.0.0.weight"),
            ("rpn.head.cls_logits.bias", "rpn.head.cls_logits.bias"),
            ("roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.cls_score.weight"),
            ("backbone.body.layer4.2.bn3.running_var", "backbone.body.layer4.2.bn3.running_var"),
            ("conv1.weight", "backbone.body.conv1.weight"),
            ("bn1.running_mean", "backbone.body.bn1.running_mean"),
            ("layer1.0.downsample.0.weight", "backbone.body.layer1.0.downsample.0.weight"),
            ("fc.weight", "fc.weight"),
            ("backbone.body.layers.0.0.block.0.conv3.weight", "backbone.body.layer1.0.conv3.weight"),
            ("backbone.body.layers.3.2.block.0.batch2.running_var", "backbone.body.layer4.2.bn2.running_var"),
            ("backbone.body.layers.1.0.block.1.conv1.weight", "backbone.body.layer2.0.downsample.0.weight"),
            ("backbone.body.layers.1.0.block.1.batch.bias", "backbone.body.layer2.0.downsample.1.bias"),
            ("backbone.layers.1.0.block.1.conv.weight", "backbone.body.layer2.0.downsample.0.weight"),
            ("backbone.conv1.weight", "backbone.body.conv1.weight"),
            ("backbone.body.layers.x.0.block.0.conv1.weight", "backbone.body.layers.x.0.block.0.conv1.weight"),
            ("backbone.body.layers.4294967295.0.block.0.conv1.w", "backbone.body.layers.4294967295.0.block.0.conv1.w"),
            ("layers", "backbone.body.layers"),
            ("", ""),
        ];
        for (from, to) in cases {
            assert_eq!(spelling(from), to, "{from}");
            assert_eq!(spelling(to), to, "{to} is final");
        }
    }

    #[test]
    fn a_wrapper_counts_only_where_every_name_has_it() {
        let prefix = |names: &[&str]| wrapper_prefix(names.iter().copied());
        assert_eq!(prefix(&["module.a", "module.b"]), "module.");
        assert_eq!(prefix(&["model.module.a", "model.module.b"]), "model.module.");
        assert_eq!(prefix(&["module.a", "b"]), "");
        assert_eq!(prefix(&[]), "");
    }
}
