//! Writes a BERT encoder (Devlin et al., 2018) as an ONNX graph: token ids and mask in, one vector a token out.
//!
//! ONNX is protobuf; the messages below are the few that the graph needs, with the field numbers of onnx.proto
//! (ONNX IR version 8, operator set 20). Tensors are written one at a time, so that memory holds a single one.

use std::io::Write;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::ModelError;
use super::config::EncoderConfig;
use super::safetensors::SafeTensors;

/// Name of the graph's input of token ids, int64 of shape (batch, tokens).
pub(super) const INPUT_IDS: &str = "input_ids";
/// Name of the graph's input that is 1 for a token and 0 for padding, int64 of shape (batch, tokens).
pub(super) const ATTENTION_MASK: &str = "attention_mask";
/// Name of the graph's output, float of shape (batch, tokens, hidden).
pub(super) const LAST_HIDDEN_STATE: &str = "last_hidden_state";

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Field numbers of the two messages that are written by hand around the tensors.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    /// The small constants; the weights are written after the message, by [`Weight::write`].
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    // ONNX's own definition is proto2, where numbers are not packed, and rten reads them so.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

/// What is done to a tensor of the safetensors file on its way into the graph.
enum Change {
    Nothing,
    /// PyTorch keeps a linear layer as (out, in); MatMul takes (in, out).
    Transpose,
    /// Adds the first row of this other tensor to every row.
    AddFirstRowOf(String),
}

/// A tensor of the graph that comes from the safetensors file.
struct Weight {
    name: String,
    /// Shape in the file.
    shape: Vec<usize>,
    change: Change,
}

impl Weight {
    fn header(&self) -> TensorProto {
        let mut dims: Vec<i64> = self.shape.iter().map(|size| *size as i64).collect();
        if matches!(self.change, Change::Transpose) {
            dims.reverse();
        }
        TensorProto { dims, data_type: FLOAT, name: self.name.clone(), raw_data: Vec::new() }
    }

    fn raw_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }

    /// Length of the tensor's message.
    fn message_len(&self) -> usize {
        let raw = self.raw_len();
        self.header().encoded_len() + key_len(TENSOR_RAW_DATA) + encoded_len_varint(raw as u64) + raw
    }

    /// Length of the tensor as a field of the graph.
    fn field_len(&self) -> usize {
        let message = self.message_len();
        key_len(GRAPH_INITIALIZER) + encoded_len_varint(message as u64) + message
    }

    /// Writes the tensor as a field of the graph, reading its values from `tensors`, where they are called
    /// `prefix` and the name.
    fn write(&self, prefix: &str, tensors: &mut SafeTensors, out: &mut impl Write) -> Result<(), WriteError> {
        let mut values = tensors.read(&format!("{prefix}{}", self.name))?;
        match &self.change {
            Change::Nothing => {}
            Change::Transpose => values = transpose(&values, self.shape[1]),
            Change::AddFirstRowOf(other) => {
                let row = tensors.read(&format!("{prefix}{other}"))?;
                let columns = self.shape[1];
                for (index, value) in values.iter_mut().enumerate() {
                    *value += row[index % columns];
                }
            }
        }
        let mut head = Vec::new();
        encode_key(GRAPH_INITIALIZER, WireType::LengthDelimited, &mut head);
        encode_varint(self.message_len() as u64, &mut head);
        self.header().encode_raw(&mut head);
        encode_key(TENSOR_RAW_DATA, WireType::LengthDelimited, &mut head);
        encode_varint(self.raw_len() as u64, &mut head);
        out.write_all(&head)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.write_all(&bytes)?;
        Ok(())
    }
}

fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Why a graph could not be written: the model's files, or the output.
#[derive(Debug)]
pub(super) enum WriteError {
    Model(ModelError),
    Output(std::io::Error),
}

impl From<ModelError> for WriteError {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Writes the encoder that `config` describes, with the weights of `tensors`, to `out`.
pub(super) fn write_model(
    config: &EncoderConfig,
    tensors: &mut SafeTensors,
    out: &mut impl Write,
) -> Result<(), WriteError> {
    // Models saved from a larger network keep their encoder under its name.
    let prefix = if tensors.contains("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    let (graph, weights) = Builder::encoder(config);
    for weight in &weights {
        check_shape(tensors, prefix, weight)?;
    }

    let model = ModelProto {
        ir_version: 8,
        producer_name: "euhub".to_owned(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 20 }],
    };
    let graph_len = graph.encoded_len() + weights.iter().map(Weight::field_len).sum::<usize>();
    let mut head = model.encode_to_vec();
    encode_key(MODEL_GRAPH, WireType::LengthDelimited, &mut head);
    encode_varint(graph_len as u64, &mut head);
    graph.encode_raw(&mut head);
    out.write_all(&head)?;
    for weight in &weights {
        weight.write(prefix, tensors, out)?;
    }
    Ok(())
}

fn check_shape(tensors: &SafeTensors, prefix: &str, weight: &Weight) -> Result<(), ModelError> {
    let name = format!("{prefix}{}", weight.name);
    let (shape, wanted) = (tensors.shape(&name)?, &weight.shape);
    if shape != wanted {
        let reason = format!("tensor {name} is of shape {shape:?}; config.json makes it {wanted:?}");
        return Err(tensors.invalid(reason));
    }
    if let Change::AddFirstRowOf(other) = &weight.change {
        let other = format!("{prefix}{other}");
        let shape = tensors.shape(&other)?;
        if shape.len() != 2 || shape[0] == 0 || shape[1] != weight.shape[1] {
            return Err(tensors.invalid(format!("tensor {other} is of shape {shape:?}")));
        }
    }
    Ok(())
}

/// Collects nodes, constants and weights. A node's output is named after the node.
struct Builder<'a> {
    config: &'a EncoderConfig,
    graph: GraphProto,
    weights: Vec<Weight>,
}

impl<'a> Builder<'a> {
    /// The whole encoder.
    fn encoder(config: &'a EncoderConfig) -> (GraphProto, Vec<Weight>) {
        let hidden = config.hidden_size;
        let head = hidden / config.heads;
        let mut builder = Self { config, graph: GraphProto::default(), weights: Vec::new() };
        builder.graph.name = "encoder".to_owned();
        builder.graph.input = vec![
            value(INPUT_IDS, INT64, &[symbol("batch"), symbol("tokens")]),
            value(ATTENTION_MASK, INT64, &[symbol("batch"), symbol("tokens")]),
        ];
        builder.graph.output =
            vec![value(LAST_HIDDEN_STATE, FLOAT, &[symbol("batch"), symbol("tokens"), fixed(hidden as i64)])];
        // In a Reshape 0 keeps the size of the input.
        builder.int_constant("heads_shape", &[0, 0, config.heads as i64, head as i64]);
        builder.int_constant("hidden_shape", &[0, 0, hidden as i64]);
        builder.float_constant("scale", 1.0 / (head as f32).sqrt());

        let bias = builder.attention_bias();
        let mut state = builder.embeddings();
        for layer in 0..config.layers {
            state = builder.layer(layer, &state, &bias);
        }
        builder.node("Identity", LAST_HIDDEN_STATE, &[&state], vec![]);
        (builder.graph, builder.weights)
    }

    /// Zero where a token may look, a large negative number where there is padding: (batch, 1, 1, tokens).
    fn attention_bias(&mut self) -> String {
        self.float_constant("one", 1.0);
        self.float_constant("minus_infinite", -1e9);
        self.int_constant("mask_axes", &[1, 2]);
        let mask = self.node("Cast", "mask/float", &[ATTENTION_MASK], vec![int("to", FLOAT as i64)]);
        let padding = self.node("Sub", "mask/padding", &["one", &mask], vec![]);
        let bias = self.node("Mul", "mask/bias", &[&padding, "minus_infinite"], vec![]);
        self.node("Unsqueeze", "mask", &[&bias, "mask_axes"], vec![])
    }

    /// Word, position and segment embeddings, normalised. There is one segment, so its row is added to the
    /// positions when the weights are written.
    fn embeddings(&mut self) -> String {
        let (vocabulary, positions) = (self.config.vocabulary, self.config.max_positions);
        let hidden = self.config.hidden_size;
        let words = "embeddings.word_embeddings.weight";
        let places = "embeddings.position_embeddings.weight";
        let segments = "embeddings.token_type_embeddings.weight".to_owned();
        self.weight(words, &[vocabulary, hidden], Change::Nothing);
        self.weight(places, &[positions, hidden], Change::AddFirstRowOf(segments));
        self.int_constant("zero", &[0]);

        let word = self.node("Gather", "embeddings/words", &[words, INPUT_IDS], vec![]);
        let tokens =
            self.node("Shape", "embeddings/tokens", &[INPUT_IDS], vec![int("start", 1), int("end", 2)]);
        let place = self.node("Slice", "embeddings/positions", &[places, "zero", &tokens, "zero"], vec![]);
        let sum = self.node("Add", "embeddings/sum", &[&word, &place], vec![]);
        self.layer_norm("embeddings.LayerNorm", &sum)
    }

    /// One encoder layer: multi-head attention and a feed-forward network, each added to its input and normalised.
    fn layer(&mut self, index: usize, input: &str, bias: &str) -> String {
        let (hidden, intermediate) = (self.config.hidden_size, self.config.intermediate);
        let layer = format!("encoder.layer.{index}");
        let name = |part: &str| format!("{layer}/{part}");

        let query = self.heads(&format!("{layer}.attention.self.query"), input, &[0, 2, 1, 3]);
        let key = self.heads(&format!("{layer}.attention.self.key"), input, &[0, 2, 3, 1]);
        let value = self.heads(&format!("{layer}.attention.self.value"), input, &[0, 2, 1, 3]);
        let product = self.node("MatMul", &name("scores"), &[&query, &key], vec![]);
        let scaled = self.node("Mul", &name("scaled"), &[&product, "scale"], vec![]);
        let masked = self.node("Add", &name("masked"), &[&scaled, bias], vec![]);
        let attention = self.node("Softmax", &name("attention"), &[&masked], vec![int("axis", -1)]);
        let mixed = self.node("MatMul", &name("mixed"), &[&attention, &value], vec![]);
        let joined = self.node("Transpose", &name("joined"), &[&mixed], vec![ints("perm", &[0, 2, 1, 3])]);
        let joined = self.node("Reshape", &name("context"), &[&joined, "hidden_shape"], vec![]);
        let output = self.linear(&format!("{layer}.attention.output.dense"), &joined, hidden, hidden);
        let sum = self.node("Add", &name("attended"), &[&output, input], vec![]);
        let attended = self.layer_norm(&format!("{layer}.attention.output.LayerNorm"), &sum);

        let wide = self.linear(&format!("{layer}.intermediate.dense"), &attended, hidden, intermediate);
        let active = self.node("Gelu", &name("gelu"), &[&wide], vec![]);
        let output = self.linear(&format!("{layer}.output.dense"), &active, intermediate, hidden);
        let sum = self.node("Add", &name("sum"), &[&output, &attended], vec![]);
        self.layer_norm(&format!("{layer}.output.LayerNorm"), &sum)
    }

    /// A linear layer cut into heads, with the axes (batch, tokens, heads, size) in the order `perm`.
    fn heads(&mut self, name: &str, input: &str, perm: &[i64]) -> String {
        let hidden = self.config.hidden_size;
        let all = self.linear(name, input, hidden, hidden);
        let cut = self.node("Reshape", &format!("{name}/cut"), &[&all, "heads_shape"], vec![]);
        self.node("Transpose", &format!("{name}/heads"), &[&cut], vec![ints("perm", perm)])
    }

    fn linear(&mut self, name: &str, input: &str, from: usize, to: usize) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.weight(&weight, &[to, from], Change::Transpose);
        self.weight(&bias, &[to], Change::Nothing);
        let product = self.node("MatMul", &format!("{name}/product"), &[input, &weight], vec![]);
        self.node("Add", &format!("{name}/sum"), &[&product, &bias], vec![])
    }

    fn layer_norm(&mut self, name: &str, input: &str) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let hidden = self.config.hidden_size;
        self.weight(&weight, &[hidden], Change::Nothing);
        self.weight(&bias, &[hidden], Change::Nothing);
        let attributes = vec![int("axis", -1), float("epsilon", self.config.layer_norm_epsilon)];
        self.node("LayerNormalization", &format!("{name}/normal"), &[input, &weight, &bias], attributes)
    }

    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![name.to_owned()],
            name: format!("{name}:{op}"),
            op_type: op.to_owned(),
            attribute,
        });
        name.to_owned()
    }

    fn weight(&mut self, name: &str, shape: &[usize], change: Change) {
        self.weights.push(Weight { name: name.to_owned(), shape: shape.to_vec(), change });
    }

    fn int_constant(&mut self, name: &str, values: &[i64]) {
        self.graph.initializer.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: INT64,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
    }

    fn float_constant(&mut self, name: &str, value: f32) {
        self.graph.initializer.push(TensorProto {
            dims: vec![],
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: value.to_le_bytes().to_vec(),
        });
    }
}

fn value(name: &str, elem_type: i32, dim: &[DimensionProto]) -> ValueInfoProto {
    let shape = Some(TensorShapeProto { dim: dim.to_vec() });
    let tensor_type = Some(TensorTypeProto { elem_type, shape });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}

fn symbol(name: &str) -> DimensionProto {
    DimensionProto { dim_value: None, dim_param: Some(name.to_owned()) }
}

fn fixed(size: i64) -> DimensionProto {
    DimensionProto { dim_value: Some(size), dim_param: None }
}

/// The attribute types of ONNX: FLOAT 1, INT 2, INTS 7.
fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: Some(value), r#type: 1, ..Default::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(value), r#type: 2, ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints: values.to_vec(), r#type: 7, ..Default::default() }
}
