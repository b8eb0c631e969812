//! The twelve numbers of the COCO detection challenge, and their printed form.
//! Definition: <https://cocodataset.org/#detection-eval>; names and order of pycocotools' `COCOeval.stats`.

use std::fmt;

use serde::Serialize;

/// The twelve numbers. Each is within 0 to 1, or −1 where it is undefined because no object of that size exists.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CocoStats {
    /// Average precision, mean over IoU 0.50:0.05:0.95: the challenge's number, "mAP".
    pub ap: f64,
    /// At IoU 0.50, Pascal VOC's criterion.
    pub ap50: f64,
    /// At IoU 0.75.
    pub ap75: f64,
    /// Of objects with an area of at most 32² pixels.
    pub ap_small: f64,
    /// Of objects with an area of 32² to 96² pixels.
    pub ap_medium: f64,
    /// Of objects with an area of at least 96² pixels.
    pub ap_large: f64,
    /// Average recall given one detection an image.
    pub ar1: f64,
    /// Given ten.
    pub ar10: f64,
    /// Given a hundred.
    pub ar100: f64,
    /// Of small objects, given a hundred.
    pub ar_small: f64,
    /// Of medium objects, given a hundred.
    pub ar_medium: f64,
    /// Of large objects, given a hundred.
    pub ar_large: f64,
}

impl CocoStats {
    /// In pycocotools' order.
    pub fn to_array(self) -> [f64; 12] {
        [
            self.ap,
            self.ap50,
            self.ap75,
            self.ap_small,
            self.ap_medium,
            self.ap_large,
            self.ar1,
            self.ar10,
            self.ar100,
            self.ar_small,
            self.ar_medium,
            self.ar_large,
        ]
    }

    /// From pycocotools' order.
    pub fn from_array(stats: [f64; 12]) -> Self {
        let [ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large] = stats;
        Self { ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large }
    }
}

/// What each line of the printed form says: title, IoU, area, detections an image.
const LINES: [(&str, &str, &str, u32); 12] = [
    ("Average Precision  (AP)", "0.50:0.95", "all", 100),
    ("Average Precision  (AP)", "0.50", "all", 100),
    ("Average Precision  (AP)", "0.75", "all", 100),
    ("Average Precision  (AP)", "0.50:0.95", "small", 100),
    ("Average Precision  (AP)", "0.50:0.95", "medium", 100),
    ("Average Precision  (AP)", "0.50:0.95", "large", 100),
    ("Average Recall     (AR)", "0.50:0.95", "all", 1),
    ("Average Recall     (AR)", "0.50:0.95", "all", 10),
    ("Average Recall     (AR)", "0.50:0.95", "all", 100),
    ("Average Recall     (AR)", "0.50:0.95", "small", 100),
    ("Average Recall     (AR)", "0.50:0.95", "medium", 100),
    ("Average Recall     (AR)", "0.50:0.95", "large", 100),
];

/// The layout of pycocotools' `summarize`, so that scripts which read it go on working.
impl fmt::Display for CocoStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((title, iou, area, detections), value) in LINES.iter().zip(self.to_array()) {
            writeln!(f, " {title} @[ IoU={iou:<9} | area={area:>6} | maxDets={detections:>3} ] = {value:0.3}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_form_is_that_of_pycocotools() {
        let stats = CocoStats::from_array([0.5, 0.25, 0.125, -1.0, 0.0, 1.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7]);
        let text = stats.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.500");
        assert_eq!(lines[1], " Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 0.250");
        assert_eq!(lines[3], " Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = -1.000");
        assert_eq!(lines[6], " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.100");
        assert_eq!(lines.len(), 12);
    }
}
