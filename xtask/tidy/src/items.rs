//! Lists the items and methods of a Rust file by name.

use std::ops::RangeInclusive;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{ImplItem, ItemImpl, Type};

/// An item at the top level of a file, or a member of an `impl` block there.
#[derive(Debug)]
pub struct Item {
    /// `item` or `Type::method`.
    pub name: String,
    /// From 1.
    pub lines: RangeInclusive<usize>,
    /// All tokens without spaces and comments, but with doc comments.
    pub tokens: String,
    /// The number of tokens.
    pub length: usize,
}

impl Item {
    pub fn new(name: String, item: &(impl ToTokens + Spanned)) -> Self {
        let span = item.span();
        let tokens = item.to_token_stream();
        Self {
            name,
            lines: span.start().line..=span.end().line,
            tokens: tokens.to_string(),
            length: count(tokens),
        }
    }
}

/// Returns the items that a file defines; none if it doesn't parse.
pub fn items(text: &str) -> Vec<Item> {
    let Ok(file) = syn::parse_file(text) else { return Vec::new() };
    let mut items = Vec::new();
    for item in &file.items {
        if let syn::Item::Impl(block) = item {
            let Some(of) = type_name(block) else { continue };
            items.extend(block.items.iter().filter_map(|member| {
                let name = format!("{of}::{}", member_name(member)?);
                Some(Item::new(name, member))
            }));
        } else if let Some(name) = item_name(item) {
            items.push(Item::new(name, item));
        }
    }
    items
}

fn type_name(block: &ItemImpl) -> Option<String> {
    let Type::Path(path) = &*block.self_ty else { return None };
    path.path.segments.last().map(|last| last.ident.to_string())
}

fn member_name(item: &ImplItem) -> Option<String> {
    match item {
        ImplItem::Fn(item) => Some(item.sig.ident.to_string()),
        ImplItem::Const(item) => Some(item.ident.to_string()),
        ImplItem::Type(item) => Some(item.ident.to_string()),
        _ => None,
    }
}

fn item_name(item: &syn::Item) -> Option<String> {
    use syn::Item;
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn count(tokens: TokenStream) -> usize {
    let counts = tokens.into_iter().map(|token| match token {
        TokenTree::Group(group) => 2 + count(group.stream()),
        _ => 1,
    });
    counts.sum()
}
