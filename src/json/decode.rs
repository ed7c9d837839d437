//! From pieces of text to values, as serde's deriving wants them.

use serde::de::{self, DeserializeSeed, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::Error;
use super::pieces::{Items, Kind, Members, is_field, unquoted};

/// A value, by all that the document says of it, in this order.
#[derive(Debug, Clone)]
pub(super) struct Value<'a> {
    pieces: Pieces<'a>,
    /// Whether `null` makes another structure of it.
    is_pointer: bool,
}

/// Most values are said once, and take no memory.
#[derive(Debug, Clone)]
enum Pieces<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

impl<'a> Value<'a> {
    pub(super) const fn of(piece: &'a str) -> Self {
        Self { pieces: Pieces::One(piece), is_pointer: false }
    }

    fn pieces(&self) -> &[&'a str] {
        match &self.pieces {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// Each of them must be one of a kind, or null.
    fn expect(&self, kind: Kind, wanted: &dyn de::Expected) -> Result<(), Error> {
        let other = self.pieces().iter().map(|piece| Kind::of(piece)).find(|one| ![Kind::Null, kind].contains(one));
        other.map_or(Ok(()), |other| Err(Error::invalid_type(Unexpected::Other(other.word()), wanted)))
    }

    fn last(&self) -> &'a str {
        self.pieces().last().copied().unwrap_or("null")
    }

    /// The scalar that they leave.
    fn scalar(&self) -> Option<&'a str> {
        self.pieces().iter().rev().copied().find(|piece| Kind::of(piece) != Kind::Null)
    }

    /// The objects that are merged; `null` takes away what was before it, where that `empties`.
    fn objects(&self, empties: bool) -> impl Iterator<Item = &'a str> + use<'a> {
        let is_null = |piece: &&str| Kind::of(piece) == Kind::Null;
        let start = self.pieces().iter().rposition(is_null).filter(|_| empties).unwrap_or(0);
        let objects: Vec<&'a str> = self.pieces().iter().skip(start).copied().filter(|piece| !is_null(piece)).collect();
        objects.into_iter()
    }
}

macro_rules! scalars {
    ($($method:ident $visit:ident $kind:ident $default:expr,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.expect(Kind::$kind, &visitor)?;
            match self.scalar() {
                Some(piece) => Ok(serde_json::Deserializer::from_str(piece).$method(visitor)?),
                None => visitor.$visit($default),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for Value<'de> {
    type Error = Error;

    scalars! {
        deserialize_bool visit_bool Bool false,
        deserialize_i8 visit_i8 Number 0,
        deserialize_i16 visit_i16 Number 0,
        deserialize_i32 visit_i32 Number 0,
        deserialize_i64 visit_i64 Number 0,
        deserialize_u8 visit_u8 Number 0,
        deserialize_u16 visit_u16 Number 0,
        deserialize_u32 visit_u32 Number 0,
        deserialize_u64 visit_u64 Number 0,
        deserialize_f32 visit_f32 Number 0.0,
        deserialize_f64 visit_f64 Number 0.0,
    }

    /// What has no type of its own is replaced as a whole.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Ok(serde_json::Deserializer::from_str(self.last()).deserialize_any(visitor)?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::String, &visitor)?;
        visitor.visit_str(&unquoted(self.scalar().unwrap_or("\"\""))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.scalar().is_none() {
            return visitor.visit_none();
        }
        visitor.visit_some(Self { is_pointer: true, ..self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::List, &visitor)?;
        let list = Some(self.last()).filter(|piece| Kind::of(piece) == Kind::List);
        visitor.visit_seq(ListAccess(Items::of(list.unwrap_or("[]"))))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::Object, &visitor)?;
        visitor.visit_map(KeysAccess { members: self.objects(true).flat_map(Members::of), value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.expect(Kind::Object, &visitor)?;
        let mut values: Vec<Vec<&'de str>> = vec![Vec::new(); fields.len()];
        for (name, value) in self.objects(self.is_pointer).flat_map(Members::of) {
            let name = unquoted(name)?;
            let place = fields.iter().position(|field| is_field(&name, field));
            if let Some(values) = place.and_then(|place| values.get_mut(place)) {
                values.push(value);
            }
        }
        // What is only null is as if it were not there.
        let is_said = |values: &Vec<&str>| values.iter().any(|value| Kind::of(value) != Kind::Null);
        let values = fields.iter().zip(values).filter(|(_, values)| is_said(values));
        visitor.visit_map(FieldsAccess { fields: values, value: None })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct ListAccess<'a>(Items<'a>);

impl<'de> SeqAccess<'de> for ListAccess<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|piece| seed.deserialize(Value::of(piece))).transpose()
    }
}

struct KeysAccess<'a, I> {
    members: I,
    value: Option<&'a str>,
}

impl<'de, I: Iterator<Item = (&'de str, &'de str)>> MapAccess<'de> for KeysAccess<'de, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Value::of(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Value::of(self.value.take().unwrap_or("null")))
    }
}

struct FieldsAccess<'a, I> {
    fields: I,
    value: Option<(&'static str, Vec<&'a str>)>,
}

impl<'de, I: Iterator<Item = (&'static &'static str, Vec<&'de str>)>> MapAccess<'de> for FieldsAccess<'de, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((field, pieces)) = self.fields.next() else { return Ok(None) };
        self.value = Some((field, pieces));
        seed.deserialize(de::value::StrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (field, pieces) = self.value.take().unwrap_or_default();
        let value = Value { pieces: Pieces::Many(pieces), is_pointer: false };
        seed.deserialize(value).map_err(|error: Error| error.within(field))
    }
}
