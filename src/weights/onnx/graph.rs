//! A graph under construction: operators in, messages out. Every value has a name of its own; constants are taken over from
//! the network's tensors when they are first used.

use std::collections::BTreeSet;

use tch::{Device, Kind};

use super::OnnxError;
use super::proto::{
    Dimension, FLOAT, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, Side, TensorProto, TensorShapeProto,
    TensorType, TypeProto, ValueInfoProto,
};
use crate::weights::Tensors;

/// A convolution without bias and the batch normalisation after it: where their tensors are, and their shape.
pub(super) struct ConvNorm<'n> {
    pub(super) conv: &'n str,
    pub(super) norm: &'n str,
    /// `[out, in / groups, k, k]`.
    pub(super) weight: [i64; 4],
    pub(super) stride: i64,
    pub(super) groups: i64,
}

/// The graph.
pub(super) struct Graph<'a> {
    tensors: &'a Tensors,
    epsilon: f64,
    taken: BTreeSet<String>,
    graph: GraphProto,
}

impl<'a> Graph<'a> {
    pub(super) fn new(tensors: &'a Tensors, epsilon: f64) -> Self {
        Self { tensors, epsilon, taken: BTreeSet::new(), graph: GraphProto::default() }
    }

    /// Calls an operator of one output; the output's name, which is the node's.
    pub(super) fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<super::proto::AttributeProto>,
    ) -> String {
        let input = inputs.iter().map(|input| (*input).to_owned()).collect();
        let (op_type, output) = (operator.to_owned(), vec![name.to_owned()]);
        self.graph.node.push(NodeProto { input, output, name: name.to_owned(), op_type, attribute });
        name.to_owned()
    }

    /// A convolution with "same" padding, then batch normalisation; the value's name begins with `value`.
    pub(super) fn conv_norm(&mut self, layer: &ConvNorm<'_>, value: &str, input: &str) -> Result<String, OnnxError> {
        let kernel = layer.weight[2];
        let weight = self.constant(&format!("{}.weight", layer.conv), &layer.weight)?;
        let attributes = vec![
            attribute::ints("kernel_shape", &[kernel; 2]),
            attribute::ints("strides", &[layer.stride; 2]),
            attribute::ints("pads", &[kernel / 2; 4]),
            attribute::int("group", layer.groups),
        ];
        let map = self.node("Conv", &format!("{value}.map"), &[input, &weight], attributes);
        let channels = [layer.weight[0]];
        let mut inputs = vec![map];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.constant(&format!("{}.{part}", layer.norm), &channels)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let epsilon = vec![attribute::float("epsilon", self.epsilon as f32)];
        Ok(self.node("BatchNormalization", &format!("{value}.norm"), &inputs, epsilon))
    }

    /// The map `value` at the size of `like`, which has as many channels, by the nearest pixel as libtorch takes it:
    /// `floor(i × from / to)`.
    pub(super) fn nearest_like(&mut self, name: &str, value: &str, like: &str) -> String {
        let shape = self.node("Shape", &format!("{name}.shape"), &[like], Vec::new());
        let how = vec![
            attribute::string("mode", "nearest"),
            attribute::string("coordinate_transformation_mode", "asymmetric"),
            attribute::string("nearest_mode", "floor"),
        ];
        // The inputs between are a region of interest and scales: none.
        self.node("Resize", &format!("{name}.resized"), &[value, "", "", &shape], how)
    }

    /// A tensor of the network as a constant; its name.
    fn constant(&mut self, name: &str, shape: &[i64]) -> Result<String, OnnxError> {
        if !self.taken.insert(name.to_owned()) {
            return Ok(name.to_owned());
        }
        let tensor = self.tensors.get(name).ok_or_else(|| OnnxError::Missing(name.to_owned()))?;
        if tensor.size() != shape {
            let (name, expected, got) = (name.to_owned(), shape.to_vec(), tensor.size());
            return Err(OnnxError::Shape { name, expected, got });
        }
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let mut values = vec![0f32; tensor.numel()];
        let count = values.len();
        tensor.f_copy_data(&mut values, count)?;
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(TensorProto {
            dims: shape.to_vec(),
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data,
        });
        Ok(name.to_owned())
    }

    /// Declares the input; sides that are `None` are free and have these names.
    pub(super) fn input(&mut self, name: &str, channels: i64, sides: [Option<i64>; 2], names: [&str; 2]) {
        self.graph.input.push(value_info(name, channels, sides, names));
    }

    /// Declares the map `value` as the output `name`.
    pub(super) fn output(
        &mut self,
        name: &str,
        value: &str,
        channels: i64,
        sides: [Option<i64>; 2],
        names: &[String; 2],
    ) {
        self.node("Identity", name, &[value], Vec::new());
        let names = [names[0].as_str(), names[1].as_str()];
        self.graph.output.push(value_info(name, channels, sides, names));
    }

    /// The file.
    pub(super) fn finish(mut self, code: &str, ir_version: i64, opset: i64) -> ModelProto {
        self.graph.name = "backbone".to_owned();
        self.graph.doc_string = format!("backbone {code}: normalised images to one map a stage");
        ModelProto {
            ir_version,
            producer_name: env!("CARGO_PKG_NAME").to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        }
    }
}

/// `[batch, channels, height, width]` float.
fn value_info(name: &str, channels: i64, sides: [Option<i64>; 2], names: [&str; 2]) -> ValueInfoProto {
    let free = |(side, name): (Option<i64>, &str)| side.map_or_else(|| Side::Named(name.to_owned()), Side::Fixed);
    let mut dim = vec![Side::Named("batch".to_owned()), Side::Fixed(channels)];
    dim.extend(sides.into_iter().zip(names).map(free));
    let dim = dim.into_iter().map(|side| Dimension { value: Some(side) }).collect();
    let tensor = TensorType { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// Attributes of nodes.
pub(super) mod attribute {
    use super::super::proto::{AttributeProto, AttributeType};

    fn named(name: &str, kind: AttributeType) -> AttributeProto {
        AttributeProto { name: name.to_owned(), r#type: kind.into(), ..AttributeProto::default() }
    }

    pub(in super::super) fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto { i: Some(value), ..named(name, AttributeType::Int) }
    }

    pub(in super::super) fn float(name: &str, value: f32) -> AttributeProto {
        AttributeProto { f: Some(value), ..named(name, AttributeType::Float) }
    }

    pub(in super::super) fn string(name: &str, value: &str) -> AttributeProto {
        AttributeProto { s: Some(value.as_bytes().to_vec()), ..named(name, AttributeType::String) }
    }

    pub(in super::super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
        AttributeProto { ints: values.to_vec(), ..named(name, AttributeType::Ints) }
    }
}
