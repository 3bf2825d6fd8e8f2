//! Declarations of messages, from which both directions follow, so that they cannot drift apart.

/// `message! { core::Type => Name { #[prost(…)] field: Type, … } check |value| … }` declares the message
/// that carries a core struct, field by field under the same names. `check` sees the decoded value.
macro_rules! message {
    ($core:ty => $proto:ident {
        $($(#[$attr:meta])* $field:ident: $ty:ty),* $(,)?
    } $(check $check:expr)?) => {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(crate) struct $proto {
            $($(#[$attr])* pub(crate) $field: $ty),*
        }

        impl $crate::field::Field<$proto> for $core {
            fn pack(&self) -> $proto {
                $proto { $($field: $crate::field::Field::pack(&self.$field)),* }
            }

            fn unpack(packed: $proto, _: &'static str) -> Result<Self, $crate::DecodeError> {
                let value = Self {
                    $($field: $crate::field::Field::unpack(
                        packed.$field,
                        concat!(stringify!($proto), ".", stringify!($field)),
                    )?),*
                };
                $(
                    let check: fn(&Self) -> Result<(), $crate::DecodeError> = $check;
                    check(&value)?;
                )?
                Ok(value)
            }
        }

        required!($core, $proto);
    };
}

/// `choice! { core::Enum => Name, KindName ("KindName", "1, 2, 3") unit {…} value {…} record {…} }`
/// declares the message that carries a core enum: exactly one of its kinds. `unit` variants have nothing,
/// `value` variants one unnamed field, `record` variants named fields, which become a message.
macro_rules! choice {
    ($core:ty => $proto:ident, $kind:ident ($kind_name:tt, $tags:tt)
        unit { $($unit_tag:tt $unit:ident),* $(,)? }
        value { $(#[$value_attr:meta] $value:ident($value_ty:ty)),* $(,)? }
        record { $($record_tag:tt $record:ident {
            $($(#[$attr:meta])* $field:ident: $ty:ty),* $(,)?
        }),* $(,)? }
    ) => {
        #[derive(Clone, PartialEq, prost::Message)]
        pub(crate) struct $proto {
            #[prost(oneof = $kind_name, tags = $tags)]
            pub(crate) kind: Option<$kind>,
        }

        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(crate) enum $kind {
            $(#[prost(message, tag = $unit_tag)] $unit(()),)*
            $(#[$value_attr] $value($value_ty),)*
            $(#[prost(message, tag = $record_tag)] $record(Box<$record>),)*
        }

        $(
            #[derive(Clone, PartialEq, prost::Message)]
            pub(crate) struct $record {
                $($(#[$attr])* pub(crate) $field: $ty),*
            }
        )*

        impl $crate::field::Field<$proto> for $core {
            fn pack(&self) -> $proto {
                let kind = match self {
                    $(Self::$unit => $kind::$unit(()),)*
                    $(Self::$value(value) => $kind::$value($crate::field::Field::pack(value)),)*
                    $(Self::$record { $($field),* } => $kind::$record(Box::new($record {
                        $($field: $crate::field::Field::pack($field)),*
                    })),)*
                };
                $proto { kind: Some(kind) }
            }

            fn unpack(packed: $proto, _: &'static str) -> Result<Self, $crate::DecodeError> {
                match packed.kind {
                    None => Err($crate::DecodeError::UnknownKind { message: stringify!($proto) }),
                    $(Some($kind::$unit(())) => Ok(Self::$unit),)*
                    $(Some($kind::$value(value)) => $crate::field::Field::unpack(
                        value,
                        concat!(stringify!($proto), ".", stringify!($value)),
                    ).map(Self::$value),)*
                    $(Some($kind::$record(record)) => Ok(Self::$record {
                        $($field: $crate::field::Field::unpack(
                            record.$field,
                            concat!(stringify!($record), ".", stringify!($field)),
                        )?),*
                    }),)*
                }
            }
        }

        required!($core, $proto);
    };
}

/// A field that holds a message is optional to the format; where core has no `Option`, it must be there.
macro_rules! required {
    ($core:ty, $proto:ty) => {
        impl $crate::field::Field<Option<$proto>> for $core {
            fn pack(&self) -> Option<$proto> {
                Some($crate::field::Field::pack(self))
            }

            fn unpack(packed: Option<$proto>, at: &'static str) -> Result<Self, $crate::DecodeError> {
                $crate::field::Field::unpack(packed.ok_or($crate::DecodeError::Missing { at })?, at)
            }
        }
    };
}

/// `words! { core::Enum { 1 First, 2 Second } }` numbers the words of an enum without fields. 0 means
/// that the field is missing.
macro_rules! words {
    ($core:ty { $($number:literal $word:ident),* $(,)? }) => {
        impl $crate::field::Field<i32> for $core {
            fn pack(&self) -> i32 {
                match self {
                    $(Self::$word => $number,)*
                }
            }

            fn unpack(packed: i32, at: &'static str) -> Result<Self, $crate::DecodeError> {
                match packed {
                    0 => Err($crate::DecodeError::Missing { at }),
                    $($number => Ok(Self::$word),)*
                    value => Err($crate::DecodeError::UnknownWord { at, value }),
                }
            }
        }
    };
}
