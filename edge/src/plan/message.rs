//! Messages and enums as the transcoder wants them: JSON keys, tags and default values already written.

use std::collections::HashMap;

use prost::encoding::{WireType, encode_key};
use prost_reflect::{
    DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, MessageDescriptor,
};

use super::{EnumId, MessageId, NameTable};
use crate::codec::escape;

/// How a value looks on the wire and in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
    /// A proto2 group: a message between start and end tags.
    Group(MessageId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// Zero and absent are the same thing; JSON always shows the field.
    Implicit,
    /// Absence is known (`optional`, messages, oneof members); JSON omits an absent field.
    Explicit,
    Repeated {
        packed: bool,
    },
    Map,
}

/// Messages whose JSON is not that of their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WellKnown {
    Any,
    Timestamp,
    Duration,
    FieldMask,
    Struct,
    Value,
    ListValue,
    Empty,
    /// `google.protobuf.*Value`, with the kind of its one field, number 1.
    Wrapper(Kind),
}

#[derive(Debug)]
pub(crate) struct FieldPlan {
    pub number: u32,
    pub name: Box<str>,
    pub json_name: Box<str>,
    /// `,"jsonName":`
    pub key: Box<[u8]>,
    /// `,"jsonName":0`, for a field that JSON shows even when it is absent.
    pub default: Option<Box<[u8]>>,
    pub kind: Kind,
    pub label: Label,
    /// Index in [`MessagePlan::oneofs`]; never of a synthetic oneof.
    pub oneof: Option<usize>,
    /// The encoded tag of one value (for a map, of one entry).
    pub tag: Box<[u8]>,
    /// The encoded tag of a packed run.
    pub packed_tag: Box<[u8]>,
}

#[derive(Debug)]
pub(crate) struct MessagePlan {
    pub full_name: Box<str>,
    pub well_known: Option<WellKnown>,
    /// Ascending by number; extensions follow from [`MessagePlan::extensions`] on, ascending too.
    pub fields: Box<[FieldPlan]>,
    /// Index of the first extension in `fields`.
    pub extensions: usize,
    /// JSON names and proto names, to the index in `fields`.
    pub names: NameTable,
    /// Names of the oneofs.
    pub oneofs: Box<[Box<str>]>,
    by_number: Box<[(u32, usize)]>,
}

#[derive(Debug)]
pub(crate) struct EnumPlan {
    /// `google.protobuf.NullValue`, whose JSON is `null`.
    pub null: bool,
    /// Ascending by number, each with its name in quotes.
    values: Box<[(i32, Box<[u8]>)]>,
    names: NameTable,
    numbers: Box<[i32]>,
}

/// Where each type of the pool is in the plan.
pub(super) struct Ids {
    messages: HashMap<String, MessageId>,
    enums: HashMap<String, EnumId>,
}

impl Ids {
    pub(super) fn of(pool: &DescriptorPool) -> Self {
        let names = pool.all_messages().map(|m| m.full_name().to_owned());
        let messages = (0..).map(MessageId).zip(names).map(|(id, name)| (name, id)).collect();
        let names = pool.all_enums().map(|e| e.full_name().to_owned());
        let enums = (0..).map(EnumId).zip(names).map(|(id, name)| (name, id)).collect();
        Ids { messages, enums }
    }

    pub(super) fn into_messages(self) -> HashMap<String, MessageId> {
        self.messages
    }

    fn kind(&self, kind: prost_reflect::Kind, group: bool) -> Kind {
        use prost_reflect::Kind as K;
        match kind {
            K::Double => Kind::Double,
            K::Float => Kind::Float,
            K::Int32 => Kind::Int32,
            K::Int64 => Kind::Int64,
            K::Uint32 => Kind::Uint32,
            K::Uint64 => Kind::Uint64,
            K::Sint32 => Kind::Sint32,
            K::Sint64 => Kind::Sint64,
            K::Fixed32 => Kind::Fixed32,
            K::Fixed64 => Kind::Fixed64,
            K::Sfixed32 => Kind::Sfixed32,
            K::Sfixed64 => Kind::Sfixed64,
            K::Bool => Kind::Bool,
            K::String => Kind::String,
            K::Bytes => Kind::Bytes,
            // Both maps hold every type of the pool that the kind comes from.
            K::Enum(e) => Kind::Enum(self.enums[e.full_name()]),
            K::Message(m) if group => Kind::Group(self.messages[m.full_name()]),
            K::Message(m) => Kind::Message(self.messages[m.full_name()]),
        }
    }
}

impl Kind {
    pub(crate) fn wire_type(self) -> WireType {
        match self {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::SixtyFourBit,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::ThirtyTwoBit,
            Kind::String | Kind::Bytes | Kind::Message(_) => WireType::LengthDelimited,
            Kind::Group(_) => WireType::StartGroup,
            _ => WireType::Varint,
        }
    }

    /// Whether a repeated field of it may be packed.
    pub(crate) fn is_packable(self) -> bool {
        !matches!(self.wire_type(), WireType::LengthDelimited | WireType::StartGroup)
    }
}

impl FieldPlan {
    fn new(number: u32, name: &str, json_name: &str, kind: Kind, label: Label, oneof: Option<usize>) -> Self {
        let tag = |wire_type| {
            let mut tag = Vec::new();
            encode_key(number, wire_type, &mut tag);
            tag.into()
        };
        let mut key = vec![b','];
        escape::write_string(json_name, &mut key);
        key.push(b':');
        let (tag, packed_tag) = (tag(kind.wire_type()), tag(WireType::LengthDelimited));
        let (name, json_name, key) = (name.into(), json_name.into(), key.into());
        FieldPlan { number, name, json_name, key, default: None, kind, label, oneof, tag, packed_tag }
    }

    fn with_default(mut self, enums: &[EnumPlan]) -> Self {
        let value: Option<Vec<u8>> = match (self.label, self.kind) {
            (Label::Explicit, _) => None,
            (Label::Repeated { .. }, _) => Some(b"[]".to_vec()),
            (Label::Map, _) => Some(b"{}".to_vec()),
            (Label::Implicit, Kind::Double | Kind::Float) => Some(b"0.0".to_vec()),
            (Label::Implicit, Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64) => {
                Some(b"\"0\"".to_vec())
            }
            (Label::Implicit, Kind::Bool) => Some(b"false".to_vec()),
            (Label::Implicit, Kind::String | Kind::Bytes) => Some(b"\"\"".to_vec()),
            (Label::Implicit, Kind::Enum(id)) => {
                let mut name = Vec::new();
                enums[id.0 as usize].write(0, &mut name);
                Some(name)
            }
            (Label::Implicit, Kind::Message(_) | Kind::Group(_)) => None,
            (Label::Implicit, _) => Some(b"0".to_vec()),
        };
        self.default = value.map(|value| [&self.key[..], &value].concat().into());
        self
    }

    fn of_field(field: &FieldDescriptor, ids: &Ids, enums: &[EnumPlan], oneofs: &[Box<str>]) -> Self {
        let label = if field.is_map() {
            Label::Map
        } else if field.is_list() {
            Label::Repeated { packed: field.is_packed() }
        } else if field.supports_presence() {
            Label::Explicit
        } else {
            Label::Implicit
        };
        let oneof = field.containing_oneof().and_then(|o| oneofs.iter().position(|name| **name == *o.name()));
        let kind = ids.kind(field.kind(), field.is_group());
        Self::new(field.number(), field.name(), field.json_name(), kind, label, oneof).with_default(enums)
    }

    /// An absent extension is never shown, so it has no default.
    fn of_extension(extension: &ExtensionDescriptor, ids: &Ids) -> Self {
        let label = if extension.is_list() {
            Label::Repeated { packed: extension.is_packed() }
        } else {
            Label::Explicit
        };
        let name = extension.json_name();
        let kind = ids.kind(extension.kind(), extension.is_group());
        Self::new(extension.number(), name, name, kind, label, None)
    }

    /// Whether the value is written with absence known, so that a zero counts.
    pub(crate) fn has_presence(&self) -> bool {
        self.label == Label::Explicit
    }
}

impl MessagePlan {
    pub(super) fn new(message: &MessageDescriptor, ids: &Ids, enums: &[EnumPlan]) -> Self {
        let oneofs: Box<[Box<str>]> =
            message.oneofs().filter(|o| !o.is_synthetic()).map(|o| o.name().into()).collect();
        let mut fields: Vec<_> =
            message.fields().map(|field| FieldPlan::of_field(&field, ids, enums, &oneofs)).collect();
        fields.sort_by_key(|field| field.number);
        let extensions = fields.len();
        fields.extend(message.extensions().map(|extension| FieldPlan::of_extension(&extension, ids)));
        fields[extensions..].sort_by_key(|field| field.number);

        let mut by_number: Box<[_]> = fields.iter().enumerate().map(|(i, field)| (field.number, i)).collect();
        by_number.sort_unstable();
        let json_names = fields.iter().enumerate().map(|(i, field)| (&*field.json_name, i));
        let names = fields.iter().enumerate().map(|(i, field)| (&*field.name, i));
        MessagePlan {
            full_name: message.full_name().into(),
            well_known: well_known(message, ids),
            names: NameTable::new(json_names.chain(names)),
            fields: fields.into(),
            extensions,
            oneofs,
            by_number,
        }
    }

    pub(crate) fn index_of(&self, number: u32) -> Option<usize> {
        let at = self.by_number.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.by_number[at].1)
    }
}

fn well_known(message: &MessageDescriptor, ids: &Ids) -> Option<WellKnown> {
    Some(match message.full_name().strip_prefix("google.protobuf.")? {
        "Any" => WellKnown::Any,
        "Timestamp" => WellKnown::Timestamp,
        "Duration" => WellKnown::Duration,
        "FieldMask" => WellKnown::FieldMask,
        "Struct" => WellKnown::Struct,
        "Value" => WellKnown::Value,
        "ListValue" => WellKnown::ListValue,
        "Empty" => WellKnown::Empty,
        "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value" | "UInt32Value" | "UInt64Value"
        | "BoolValue" | "StringValue" | "BytesValue" => {
            WellKnown::Wrapper(ids.kind(message.get_field(1)?.kind(), false))
        }
        _ => return None,
    })
}

impl EnumPlan {
    pub(super) fn new(descriptor: &EnumDescriptor) -> Self {
        let mut numbers: Vec<_> = descriptor.values().map(|value| value.number()).collect();
        let names = descriptor
            .values()
            .enumerate()
            .map(|(i, value)| (value.name().to_owned(), i))
            .collect::<Vec<_>>();
        let names = NameTable::new(names.iter().map(|(name, i)| (&**name, *i)));
        let by_index = numbers.clone().into();
        numbers.sort_unstable();
        numbers.dedup();
        // Of several names for one number (`allow_alias`), the descriptor says which is written.
        let values = numbers.into_iter().filter_map(|number| {
            let mut name = Vec::new();
            escape::write_string(descriptor.get_value(number)?.name(), &mut name);
            Some((number, name.into()))
        });
        EnumPlan {
            null: descriptor.full_name() == "google.protobuf.NullValue",
            values: values.collect(),
            names,
            numbers: by_index,
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        self.names.get(name).map(|index| self.numbers[index])
    }

    /// Writes the JSON of a number: its name in quotes, or the number itself when it has none.
    pub(crate) fn write(&self, number: i32, out: &mut Vec<u8>) {
        if self.null {
            return out.extend_from_slice(b"null");
        }
        // Most enums count from 0 without gaps, so the number is the index.
        let guess =
            usize::try_from(number).ok().and_then(|i| self.values.get(i)).filter(|(n, _)| *n == number);
        let found = guess.or_else(|| {
            let at = self.values.binary_search_by_key(&number, |(n, _)| *n).ok()?;
            self.values.get(at)
        });
        match found {
            Some((_, name)) => out.extend_from_slice(name),
            None => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        }
    }
}
