//! The names that a Rust file defines, for links that promise a definition.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{Fields, Item, TraitItem};

use super::code::is_test;
use super::same::{item_name, member_name, type_name};

/// Lists the names that a file defines, except in its tests and by macros:
/// functions, types, constants, statics, macros and modules; methods, fields
/// and variants, each alone and as `Type::name`.
pub fn definitions(text: &str) -> BTreeSet<String> {
    let mut definitions = Definitions::default();
    if let Ok(file) = syn::parse_file(text) {
        definitions.visit_file(&file);
    }
    definitions.names
}

#[derive(Default)]
struct Definitions {
    names: BTreeSet<String>,
}

impl Definitions {
    fn add_member(&mut self, of: &impl ToString, name: &impl ToString) {
        self.names.insert(name.to_string());
        self.names.insert(format!("{}::{}", of.to_string(), name.to_string()));
    }

    fn add_fields(&mut self, of: &impl ToString, fields: &Fields) {
        for name in fields.iter().filter_map(|field| field.ident.as_ref()) {
            self.add_member(of, name);
        }
    }
}

impl<'ast> Visit<'ast> for Definitions {
    fn visit_item(&mut self, item: &'ast Item) {
        self.names.extend(item_name(item));
        match item {
            Item::Mod(item) if item.attrs.iter().any(is_test) => return,
            Item::Mod(item) => {
                self.names.insert(item.ident.to_string());
            }
            Item::Struct(item) => self.add_fields(&item.ident, &item.fields),
            Item::Enum(item) => {
                for variant in &item.variants {
                    self.add_member(&item.ident, &variant.ident);
                    self.add_fields(&variant.ident, &variant.fields);
                }
            }
            Item::Impl(block) => {
                let of = type_name(block);
                for name in block.items.iter().filter_map(member_name) {
                    self.add_member(of.as_ref().unwrap_or(&name), &name);
                }
            }
            Item::Trait(item) => {
                for name in item.items.iter().filter_map(trait_member_name) {
                    self.add_member(&item.ident, &name);
                }
            }
            _ => {}
        }
        // Items in modules and in functions are next.
        visit::visit_item(self, item);
    }
}

fn trait_member_name(item: &TraitItem) -> Option<String> {
    match item {
        TraitItem::Fn(item) => Some(item.sig.ident.to_string()),
        TraitItem::Const(item) => Some(item.ident.to_string()),
        TraitItem::Type(item) => Some(item.ident.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        definitions(text).into_iter().collect()
    }

    #[test]
    fn every_kind_of_definition_is_found() {
        let rows: [(&str, &[&str]); 13] = [
            ("fn serve() {}", &["serve"]),
            ("async unsafe fn serve() {}", &["serve"]),
            ("extern \"C\" fn on_stop(_: i32) {}", &["on_stop"]),
            (
                "struct Share { budget: usize }",
                &["Share", "Share::budget", "budget"],
            ),
            ("struct Name(u8);", &["Name"]),
            (
                "enum Trigger { Edge, Level }",
                &[
                    "Edge",
                    "Level",
                    "Trigger",
                    "Trigger::Edge",
                    "Trigger::Level",
                ],
            ),
            (
                "trait Reply { const A: u8; fn put(&self); }",
                &["A", "Reply", "Reply::A", "Reply::put", "put"],
            ),
            ("type Work = u8;", &["Work"]),
            ("const MOST: u8 = 1;", &["MOST"]),
            ("static STOP: u8 = 1;", &["STOP"]),
            ("macro_rules! row { () => {} }", &["row"]),
            ("mod accept;", &["accept"]),
            ("mod inner { fn work() {} }", &["inner", "work"]),
        ];
        for (text, expected) in rows {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn members_of_implementations_are_found() {
        let text = "impl<'a> a::Server<'a> { fn run(&self) { fn inner() {} } }
                    impl Drop for Guard { fn drop(&mut self) {} }";
        let expected = ["Guard::drop", "Server::run", "drop", "inner", "run"];
        assert_eq!(names(text), expected);
    }

    #[test]
    fn fields_of_variants_are_found() {
        let expected = ["Send", "Send::bytes", "What", "What::Send", "bytes"];
        assert_eq!(names("enum What { Send { bytes: u8 } }"), expected);
    }

    #[test]
    fn what_is_only_mentioned_is_not_found() {
        for text in [
            "use slotmap::SlotMap;",
            "use slotmap::{SlotMap as Map, other::*};",
            "// fn serve() {}",
            "//! fn serve() {}",
            "compile_error!(\"fn serve() {}\");",
            "thread_local! { static WORKER: u8 = 0; }",
            "#[cfg(test)] mod tests { fn sample() {} }",
        ] {
            assert_eq!(names(text), [""; 0], "{text}");
        }
        // A call, its arguments, local variables, parameters, text.
        let text = "fn f(parameter: Type) { let local = call(\"text\"); \
                    let Pattern { field } = local; label!(word); }";
        assert_eq!(names(text), ["f"]);
    }

    #[test]
    fn what_does_not_parse_defines_nothing() {
        assert_eq!(names("fn serve( {}"), [""; 0]);
    }
}
