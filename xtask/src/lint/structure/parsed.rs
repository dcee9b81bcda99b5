//! One source file: its modules, their items, and every path that they name.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Ident, Item, ItemMod, ItemUse, UseTree, Visibility,
    spanned::Spanned as _,
    visit::{self, Visit},
};

use super::{tree::Source, violation::Violation};

/// A file, parsed.
pub(super) struct Parsed {
    pub(super) path: String,
    /// The file's own module, then the modules written inside the file.
    pub(super) scopes: Vec<Scope>,
    /// Lines that have the word `unsafe`.
    pub(super) unsafes: Vec<usize>,
    /// Lines of items that are neither modules nor imports.
    pub(super) items: Vec<usize>,
    /// Names in the attributes of the whole file: `forbid`, `unsafe_code`.
    pub(super) attributes: BTreeSet<String>,
}

/// A module.
#[derive(Default)]
pub(super) struct Scope {
    /// The names of the enclosing modules in this file, and its own name. Empty for the file's module.
    pub(super) inside: Vec<String>,
    /// Modules in files of their own.
    pub(super) children: Vec<String>,
    pub(super) imports: Vec<Import>,
    /// Names of its items.
    pub(super) names: BTreeSet<String>,
    /// Every path of two or more words, imports included.
    pub(super) references: Vec<Reference>,
}

/// A name that `use` imports. Without an alias, all names of a module.
pub(super) struct Import {
    pub(super) alias: Option<String>,
    pub(super) path: Vec<String>,
}

/// A path, as it is written.
pub(super) struct Reference {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

impl Parsed {
    /// Parses a file.
    pub(super) fn new(source: &Source) -> Result<Self, Violation> {
        let Source { path, text } = source;
        let refuse = |error: syn::Error| {
            Violation::new(path, error.span().start().line, format!("not Rust: {error}"))
        };
        let file = syn::parse_file(text).map_err(refuse)?;
        let tokens: TokenStream = syn::parse_str(text).map_err(refuse)?;
        let mut unsafes = Vec::new();
        find_unsafe(tokens, &mut unsafes);
        let mut reader = Reader { scopes: vec![Scope::default()], current: 0 };
        reader.read_items(&file.items);
        let items = file.items.iter().filter(|item| !is_connection(item));
        let mut attributes = BTreeSet::new();
        for attribute in &file.attrs {
            words(quote_meta(&attribute.meta), &mut attributes);
        }
        Ok(Self {
            path: path.clone(),
            scopes: reader.scopes,
            unsafes,
            items: items.map(|item| item.span().start().line).collect(),
            attributes,
        })
    }
}

/// Whether an item only connects modules.
fn is_connection(item: &Item) -> bool {
    match item {
        Item::Use(_) | Item::ExternCrate(_) => true,
        Item::Mod(ItemMod { content, .. }) => {
            content.as_ref().is_none_or(|(_, items)| items.iter().all(is_connection))
        }
        _ => false,
    }
}

/// The words of an attribute.
fn quote_meta(meta: &syn::Meta) -> TokenStream {
    match meta {
        syn::Meta::List(list) => {
            let name = list.path.get_ident().map(|name| TokenTree::Ident(name.clone()));
            name.into_iter().chain(list.tokens.clone()).collect()
        }
        _ => TokenStream::new(),
    }
}

fn words(tokens: TokenStream, words: &mut BTreeSet<String>) {
    for token in tokens {
        if let TokenTree::Ident(word) = token {
            words.insert(word.to_string());
        }
    }
}

fn find_unsafe(tokens: TokenStream, lines: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => find_unsafe(group.stream(), lines),
            TokenTree::Ident(word) if word == "unsafe" => lines.push(word.span().start().line),
            _ => {}
        }
    }
}

struct Reader {
    scopes: Vec<Scope>,
    current: usize,
}

impl Reader {
    fn scope(&mut self) -> &mut Scope {
        &mut self.scopes[self.current]
    }

    fn read_items(&mut self, items: &[Item]) {
        for item in items {
            self.scope().names.extend(name_of(item).map(ToString::to_string));
        }
        items.iter().for_each(|item| self.visit_item(item));
    }

    fn refer(&mut self, line: usize, path: Vec<String>) {
        self.scope().references.push(Reference { line, path });
    }

    fn import(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        let line = tree.span().start().line;
        let (alias, last) = match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.import(&step.tree, path);
                path.pop();
                return;
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, path));
                return;
            }
            UseTree::Glob(_) => (None, None),
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                // `use a::b::{self}` imports `b`.
                if name == "self" {
                    (path.last().cloned(), None)
                } else {
                    (Some(name.clone()), Some(name))
                }
            }
            UseTree::Rename(rename) => {
                let name = rename.ident.to_string();
                (Some(rename.rename.to_string()), Some(name).filter(|name| name != "self"))
            }
        };
        let full: Vec<_> = path.iter().cloned().chain(last).collect();
        self.refer(line, full.clone());
        self.scope().imports.push(Import { alias, path: full });
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let name = module.ident.to_string();
        let Some((_, items)) = &module.content else {
            self.scope().children.push(name);
            return;
        };
        let inside = self.scope().inside.iter().cloned().chain([name]).collect();
        self.scopes.push(Scope { inside, ..Scope::default() });
        let outer = std::mem::replace(&mut self.current, self.scopes.len() - 1);
        self.read_items(items);
        self.current = outer;
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.import(&import.tree, &mut Vec::new());
    }

    /// `pub(in …)` does not use the module that it names.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.refer(path.span().start().line, names);
        }
        visit::visit_path(self, path);
    }

    /// Macros and attributes. Only the paths inside them are understood.
    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.read_tokens(tokens.clone());
    }
}

impl Reader {
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<Ident> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end_path(&mut path);
                    }
                    path.push(name);
                }
                TokenTree::Group(group) => {
                    self.end_path(&mut path);
                    self.read_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.end_path(&mut path),
            }
            colons = 0;
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut Vec<Ident>) {
        let [first, _, ..] = &path[..] else {
            path.clear();
            return;
        };
        let line = first.span().start().line;
        let names = path.drain(..).map(|name| name.to_string()).collect();
        self.refer(line, names);
    }
}

fn name_of(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}
