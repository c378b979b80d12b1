//! Configuration of the daemons: a TOML file under the environment under flags, printed and checked from one
//! description.
//!
//! A struct is written once with [`config!`](crate::config!): doc comment, name, type and default of each field. From
//! that come the struct, its `Default`, and the table of fields that [`print()`] turns into a commented file and
//! [`load`] uses to name the nearest known key. What the fields mean is each binary's matter: see [`Daemon::check`].
//!
//! This module reads no environment and no arguments by itself ([`environment`] is for `main`), and exits nowhere but
//! in [`parse_args`].

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

mod args;
mod change;
pub mod duration;
mod error;
mod load;
mod print;

pub use args::{CommonArgs, parse_args, set};
pub use change::{Change, Changes, reconcile};
pub use error::{ConfigError, Flaw, exit};
pub use load::{FILE_BYTES_MAX, environment, load};
pub use print::{print, round_trip};

/// A struct made by [`config!`](crate::config!): a whole file or one of its tables.
pub trait Config: Serialize + DeserializeOwned + Default + PartialEq + Debug {
    /// The struct's doc comment, by line.
    const DOC: &'static [&'static str];
    const FIELDS: &'static [Field];

    /// The default, with the examples in place of what has no default.
    fn example() -> Self;
}

/// The whole configuration of one binary.
pub trait Daemon: Config {
    /// What its environment variables begin with: key `ping.interval` and prefix `PAMS_AGENT` give
    /// `PAMS_AGENT_PING_INTERVAL`.
    const ENV_PREFIX: &'static str;

    /// Variables with this prefix that are no keys but read elsewhere, such as by the clients; without the prefix.
    /// `CONFIG`, the file's path, need not be told.
    const OTHER_VARIABLES: &'static [&'static str] = &[];

    /// Keys that are read at the start only, by their dotted paths: where it listens, where its files are. All others can
    /// change while it runs.
    const FIXED: &'static [&'static str] = &[];

    /// What types cannot say: ranges, and fields that must go together. The first flaw found is shown with the place
    /// that the value comes from.
    fn check(&self) -> Result<(), Flaw>;
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    /// Lines of its doc comment.
    pub doc: &'static [&'static str],
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Always has a value.
    Value,
    /// `Option<T>`: none by default, printed commented out with an example.
    Optional,
    /// A table of its own.
    Table(&'static [Field]),
    /// An array of tables: empty by default, printed commented out with an example.
    List,
}

/// Declares a configuration struct; see the [module](mod@crate::config). A field has one of five forms:
///
/// ```
/// use std::time::Duration;
///
/// use serde::{Deserialize, Serialize};
///
/// pams_shared::config! {
///     /// How it pings.
///     pub struct Ping {
///         /// Time between two pings of a buddy; "10s" in the file.
///         interval: Duration = Duration::from_secs(10),
///     }
/// }
///
/// pams_shared::config! {
///     /// An agent.
///     pub struct Agent {
///         /// Where its data is.
///         data_dir: String = "/var/lib/pams/agent".to_owned(),
///         /// Where it reports; nowhere by default, so the file shows an example behind a `#`.
///         home: Option<String> = None => "pams.example.org:4433".to_owned(),
///         /// A table.
///         [ping]: Ping,
///         /// Whom it watches: an array of tables, empty by default, again with an example.
///         [[buddy]]: Vec<Buddy> => vec![Buddy { id: "b2".to_owned() }],
///     }
/// }
///
/// /// An entry is an ordinary struct, as its keys may be required.
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// #[serde(deny_unknown_fields)]
/// pub struct Buddy {
///     pub id: String,
/// }
///
/// assert_eq!(Agent::default().ping.interval, Duration::from_secs(10));
/// ```
///
/// The caller's crate depends on `serde` with `derive`. Every field is `pub`.
#[macro_export]
macro_rules! config {
    ($(#[doc = $doc:literal])* $vis:vis struct $name:ident { $($body:tt)* }) => {
        $crate::config!(@field [$vis $name [$($doc)*]] [] [] [] [] $($body)*);
    };
    // One arm for each form of a field, each adding to: declarations, defaults, examples, table of fields.
    (@field $head:tt [$($decl:tt)*] [$($def:tt)*] [$($ex:tt)*] [$($field:tt)*]
        $(#[doc = $doc:literal])* [[$f:ident]]: $t:ty => $example:expr, $($rest:tt)*) => {
        $crate::config!(@field $head
            [$($decl)* $(#[doc = $doc])* pub $f: $t,]
            [$($def)* $f: ::std::default::Default::default(),]
            [$($ex)* $f: $example,]
            [$($field)* { $f, [$($doc),*], $crate::config::Kind::List }]
            $($rest)*);
    };
    (@field $head:tt [$($decl:tt)*] [$($def:tt)*] [$($ex:tt)*] [$($field:tt)*]
        $(#[doc = $doc:literal])* [$f:ident]: $t:ty, $($rest:tt)*) => {
        $crate::config!(@field $head
            [$($decl)* $(#[doc = $doc])* pub $f: $t,]
            [$($def)* $f: ::std::default::Default::default(),]
            [$($ex)* $f: <$t as $crate::config::Config>::example(),]
            [$($field)* { $f, [$($doc),*], $crate::config::Kind::Table(<$t as $crate::config::Config>::FIELDS) }]
            $($rest)*);
    };
    (@field $head:tt [$($decl:tt)*] [$($def:tt)*] [$($ex:tt)*] [$($field:tt)*]
        $(#[doc = $doc:literal])* $f:ident: Duration = $default:expr, $($rest:tt)*) => {
        $crate::config!(@field $head
            [$($decl)* $(#[doc = $doc])*
                #[serde(with = "pams_shared::config::duration")]
                pub $f: ::std::time::Duration,]
            [$($def)* $f: $default,]
            [$($ex)* $f: $default,]
            [$($field)* { $f, [$($doc),*], $crate::config::Kind::Value }]
            $($rest)*);
    };
    (@field $head:tt [$($decl:tt)*] [$($def:tt)*] [$($ex:tt)*] [$($field:tt)*]
        $(#[doc = $doc:literal])* $f:ident: Option<Duration> = None => $example:expr, $($rest:tt)*) => {
        $crate::config!(@field $head
            [$($decl)* $(#[doc = $doc])*
                #[serde(with = "pams_shared::config::duration::optional", skip_serializing_if = "Option::is_none")]
                pub $f: ::std::option::Option<::std::time::Duration>,]
            [$($def)* $f: ::std::option::Option::None,]
            [$($ex)* $f: ::std::option::Option::Some($example),]
            [$($field)* { $f, [$($doc),*], $crate::config::Kind::Optional }]
            $($rest)*);
    };
    (@field $head:tt [$($decl:tt)*] [$($def:tt)*] [$($ex:tt)*] [$($field:tt)*]
        $(#[doc = $doc:literal])* $f:ident: Option<$t:ty> = None => $example:expr, $($rest:tt)*) => {
        $crate::config!(@field $head
            [$($decl)* $(#[doc = $doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $f: ::std::option::Option<$t>,]
            [$($def)* $f: ::std::option::Option::None,]
            [$($ex)* $f: ::std::option::Option::Some($example),]
            [$($field)* { $f, [$($doc),*], $crate::config::Kind::Optional }]
            $($rest)*);
    };
    (@field $head:tt [$($decl:tt)*] [$($def:tt)*] [$($ex:tt)*] [$($field:tt)*]
        $(#[doc = $doc:literal])* $f:ident: $t:ty = $default:expr, $($rest:tt)*) => {
        $crate::config!(@field $head
            [$($decl)* $(#[doc = $doc])* pub $f: $t,]
            [$($def)* $f: $default,]
            [$($ex)* $f: $default,]
            [$($field)* { $f, [$($doc),*], $crate::config::Kind::Value }]
            $($rest)*);
    };
    (@field [$vis:vis $name:ident [$($doc:literal)*]] [$($decl:tt)*] [$($def:tt)*] [$($ex:tt)*]
        [$({ $f:ident, [$($fdoc:literal),*], $kind:expr })*]) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        $vis struct $name { $($decl)* }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                Self { $($def)* }
            }
        }

        impl $crate::config::Config for $name {
            const DOC: &'static [&'static str] = &[$($doc),*];
            const FIELDS: &'static [$crate::config::Field] =
                &[$($crate::config::Field { name: stringify!($f), doc: &[$($fdoc),*], kind: $kind }),*];

            fn example() -> Self {
                Self { $($ex)* }
            }
        }
    };
}

/// Calls `visit` with each key that holds a value, by its dotted path, in the order of the file.
fn each_key(fields: &'static [Field], visit: &mut impl FnMut(&str)) {
    fn walk(fields: &'static [Field], path: &str, visit: &mut impl FnMut(&str)) {
        for field in fields {
            let key = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            match field.kind {
                Kind::Table(inner) => walk(inner, &key, visit),
                Kind::Value | Kind::Optional | Kind::List => visit(&key),
            }
        }
    }
    walk(fields, "", visit);
}

#[cfg(test)]
mod tests;
