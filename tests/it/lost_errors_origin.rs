//! What may come from a system call, for `lost_errors.rs`: told from the signatures of `src` and a list of calls that make none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Expr, GenericArgument, Pat, PathArguments, ReturnType, Stmt, Type};

/// Functions and methods of other crates that make no system call, or return no result.
const NO_SYSTEM_CALL: &str = "
    parse from_str from_str_radix from_hex from_utf8 from_utf8_lossy to_str into_string from_bytes_with_nul from_bytes_until_nul
    try_from try_into from into from_slice from_value to_value to_string to_owned to_vec to_bytes
    checked_add checked_sub checked_mul checked_div checked_rem checked_next_power_of_two try_reserve try_reserve_exact
    lock read_arc write_arc try_lock into_inner get_mut set get_or_init duration_since elapsed
    recv recv_timeout try_recv send try_send join available_parallelism
    get get_mut first last first_mut last_mut next next_back peek nth find find_map position rposition min max min_by_key max_by_key
    strip_prefix strip_suffix split_once rsplit_once split rsplit splitn chars bytes lines split_at split_at_checked split_first split_last
    binary_search binary_search_by binary_search_by_key find_iter parent file_name extension file_stem components
    remove insert pop pop_front pop_back entry front back keys values values_mut iter iter_mut into_iter drain
    as_str as_bytes as_u64 as_i64 as_array as_object as_bool as_slice as_deref_mut
    var_os var args_os current then then_some checked_pow leading_zeros len count sum from_raw from_raw_mode
    raw_os_error from_io_error kind source downcast downcast_ref downcast_mut fmt write_fmt write_str try_fold fold reduce
    to_digit from_u32 from_digit char_indices zip rev skip take chain enumerate filter filter_map flat_map take_while skip_while windows
    chunks as_chunks cmp partial_cmp ok_or unwrap_or unwrap_or_else unwrap_or_default map_or map_or_else ok err as_path
    try_borrow upgrade to_str_lossy value_of get_one get_many matches is_some is_none
";

/// Functions of this crate whose result is no system call's.
const PURE: &str = "
    from_hex check_name number parse_rfc3339_weak with_template width as_f64 link_name_bytes or xor
    fetch_update config_layers canonical of_store
";

/// Calls of other crates that return an iterator of results, once they have not failed themselves.
const YIELDS_RESULTS: [&str; 5] = ["read_dir", "lines", "entries", "Dir", "read_from"];

/// Methods after which a result is still that result.
const KEEPS: &str =
    "map map_err inspect inspect_err doing as_ref as_mut as_deref copied cloned clone by_ref or_else and_then";

/// Methods after which an iterator still has the same kind of items.
const SAME_ITEMS: &str = "iter into_iter iter_mut filter take skip chain rev skip_while take_while drain values by_ref inspect peekable cloned";

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// No result, or one of no system call.
    Plain,
    /// A result that may be a failed system call's.
    Fallible,
    /// Something else that has such results in it.
    Holds,
    Unknown,
}

pub(crate) type Origin = (String, Kind);
type Scopes = [Vec<Origin>];

#[derive(Default)]
pub(crate) struct Signatures {
    functions: HashMap<String, Vec<(Option<String>, Type)>>,
    plain: Vec<(Option<String>, String)>,
    fields: HashMap<String, Vec<Type>>,
    owner: Option<String>,
}

pub(crate) fn is_test(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => return false,
    };
    let is_cfg_test = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_cfg_test)
}

/// All sources below `dir`, without the tests among them.
pub(crate) fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("read an entry").path();
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_tests {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_tests {
            files.push(path);
        }
    }
    files
}

fn has(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|word| word == name)
}

fn last_name(path: &syn::Path) -> String {
    path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}

fn arguments(segment: &syn::PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(list) = &segment.arguments else { return Vec::new() };
    let types = list.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(inner) => Some(inner),
        GenericArgument::AssocType(bound) => Some(&bound.ty),
        _ => None,
    });
    types.collect()
}

/// Errors that no system call makes.
fn is_no_system_error(error: &Type) -> bool {
    let Type::Path(path) = error else { return matches!(error, Type::Reference(_) | Type::Tuple(_)) };
    let is_fmt = path.path.segments.len() == 2 && path.path.segments[0].ident == "fmt";
    is_fmt
        || has(
            "String Infallible Utf8Error ParseIntError TryFromIntError RecvError Invalid Refusal HardLinkError",
            &last_name(&path.path),
        )
}

fn kind_of_type(kind: &Type) -> Kind {
    match kind {
        Type::Reference(inner) => kind_of_type(&inner.elem),
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Kind::Plain };
            let inner = arguments(last);
            let is_result = last.ident.to_string().ends_with("Result");
            if is_result && !inner.get(1).is_some_and(|error| is_no_system_error(error)) {
                return Kind::Fallible;
            }
            if !is_result && inner.into_iter().any(|inner| matches!(kind_of_type(inner), Kind::Fallible | Kind::Holds))
            {
                return Kind::Holds;
            }
            Kind::Plain
        }
        Type::ImplTrait(bounds) => kind_of_bounds(bounds.bounds.iter()),
        Type::TraitObject(bounds) => kind_of_bounds(bounds.bounds.iter()),
        Type::Tuple(types) if types.elems.iter().any(|inner| kind_of_type(inner) == Kind::Fallible) => Kind::Holds,
        _ => Kind::Plain,
    }
}

fn kind_of_bounds<'a>(mut bounds: impl Iterator<Item = &'a syn::TypeParamBound>) -> Kind {
    let kind = bounds.find_map(|bound| {
        let syn::TypeParamBound::Trait(bound) = bound else { return None };
        let last = bound.path.segments.last()?;
        match &last.arguments {
            // A closure counts as what it returns.
            PathArguments::Parenthesized(call) => Some(kind_of_return(&call.output)),
            _ => arguments(last).into_iter().any(|item| kind_of_type(item) == Kind::Fallible).then_some(Kind::Holds),
        }
    });
    kind.unwrap_or(Kind::Plain)
}

fn kind_of_return(output: &ReturnType) -> Kind {
    match output {
        ReturnType::Default => Kind::Plain,
        ReturnType::Type(_, kind) => kind_of_type(kind),
    }
}

/// What a `?` leaves of it.
fn inside(kind: &Type) -> Kind {
    let Type::Path(path) = kind else { return Kind::Plain };
    path.path
        .segments
        .last()
        .and_then(|last| arguments(last).first().map(|inner| kind_of_type(inner)))
        .unwrap_or(Kind::Plain)
}

impl<'ast> Visit<'ast> for Signatures {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let Type::Path(path) = &*block.self_ty else { return };
        self.owner = Some(last_name(&path.path));
        visit::visit_item_impl(self, block);
        self.owner = None;
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let name = signature.ident.to_string();
        match &signature.output {
            ReturnType::Type(_, kind) => {
                self.functions.entry(name).or_default().push((self.owner.clone(), (**kind).clone()));
            }
            ReturnType::Default => self.plain.push((self.owner.clone(), name)),
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            self.fields.entry(name.to_string()).or_default().push(field.ty.clone());
        }
    }
}

fn worst(kinds: impl IntoIterator<Item = Kind>) -> Kind {
    let kinds: Vec<Kind> = kinds.into_iter().collect();
    let order = [Kind::Fallible, Kind::Holds, Kind::Unknown];
    order.into_iter().find(|kind| kinds.contains(kind)).unwrap_or(Kind::Plain)
}

impl Signatures {
    pub(crate) fn of(src: &Path) -> Self {
        let mut signatures = Self::default();
        for file in sources(src) {
            let text = std::fs::read_to_string(&file).expect("read a source");
            signatures.visit_file(&syn::parse_file(&text).expect("a source"));
        }
        signatures
    }

    /// The scope of an `impl`: what its methods may call on `self`.
    pub(crate) fn owner(block: &syn::ItemImpl) -> Vec<Origin> {
        let Type::Path(path) = &*block.self_ty else { return Vec::new() };
        vec![(format!("impl {}", last_name(&path.path)), Kind::Plain)]
    }

    pub(crate) fn parameters(&self, signature: &syn::Signature) -> Vec<Origin> {
        let typed = signature.inputs.iter().filter_map(|input| {
            let syn::FnArg::Typed(typed) = input else { return None };
            let Pat::Ident(name) = &*typed.pat else { return None };
            Some((name.ident.to_string(), self.parameter_kind(&typed.ty, &signature.generics)))
        });
        typed.collect()
    }

    fn parameter_kind(&self, kind: &Type, generics: &syn::Generics) -> Kind {
        let Type::Path(path) = kind else { return kind_of_type(kind) };
        let parameter = generics.type_params().find(|parameter| path.path.is_ident(&parameter.ident));
        parameter.map_or_else(|| kind_of_type(kind), |parameter| kind_of_bounds(parameter.bounds.iter()))
    }

    pub(crate) fn origin_of_binding(&self, local: &syn::Local, scopes: &Scopes) -> Option<Origin> {
        let init = local.init.as_ref()?;
        match &local.pat {
            Pat::Ident(name) => Some((name.ident.to_string(), self.kind(&init.expr, scopes))),
            Pat::Type(typed) => {
                let Pat::Ident(name) = &*typed.pat else { return None };
                Some((name.ident.to_string(), kind_of_type(&typed.ty)))
            }
            _ => None,
        }
    }

    pub(crate) fn may_fail(&self, value: &Expr, scopes: &Scopes) -> bool {
        self.kind(value, scopes) != Kind::Plain
    }

    pub(crate) fn is_result(&self, value: &Expr, scopes: &Scopes) -> bool {
        match self.kind(value, scopes) {
            Kind::Fallible => true,
            Kind::Unknown => is_call(value),
            Kind::Plain | Kind::Holds => false,
        }
    }

    /// Whether `flatten` of it leaves out the items that are errors.
    pub(crate) fn yields_results(&self, value: &Expr, scopes: &Scopes) -> bool {
        match value {
            Expr::MethodCall(call) if has(SAME_ITEMS, &call.method.to_string()) => {
                self.yields_results(&call.receiver, scopes)
            }
            Expr::MethodCall(call) if call.method == "map" => {
                call.args.first().is_some_and(|made| self.closure(made, scopes) == Kind::Fallible)
                    && self.kind(value, scopes) != Kind::Fallible
            }
            Expr::Try(tried) => {
                let name = called(&tried.expr);
                name.is_some_and(|name| YIELDS_RESULTS.contains(&name.as_str()))
                    || self.kind(value, scopes) == Kind::Holds
            }
            _ => self.kind(value, scopes) == Kind::Holds,
        }
    }

    fn named(&self, owner: Option<&str>, name: &str) -> Kind {
        let known = self.functions.get(name).map(Vec::as_slice).unwrap_or_default();
        let of_owner: Vec<Kind> = known
            .iter()
            .filter(|(of, _)| owner.is_some() && of.as_deref() == owner)
            .map(|(_, kind)| kind_of_type(kind))
            .collect();
        if !of_owner.is_empty() && !has(PURE, name) {
            return worst(of_owner);
        }
        if has(PURE, name) {
            return Kind::Plain;
        }
        if has(NO_SYSTEM_CALL, name) {
            return Kind::Plain;
        }
        if known.is_empty() {
            return if self.plain.iter().any(|(_, plain)| plain == name) { Kind::Plain } else { Kind::Unknown };
        }
        worst(known.iter().map(|(_, kind)| kind_of_type(kind)))
    }

    fn kind(&self, value: &Expr, scopes: &Scopes) -> Kind {
        match value {
            Expr::Paren(inner) => self.kind(&inner.expr, scopes),
            Expr::Group(inner) => self.kind(&inner.expr, scopes),
            Expr::Reference(inner) => self.kind(&inner.expr, scopes),
            Expr::Unary(inner) => self.kind(&inner.expr, scopes),
            Expr::Tuple(tuple) => worst(tuple.elems.iter().map(|inner| self.kind(inner, scopes))),
            Expr::Array(array) => match worst(array.elems.iter().map(|inner| self.kind(inner, scopes))) {
                Kind::Fallible => Kind::Holds,
                kind => kind,
            },
            Expr::Try(tried) => {
                let types = called(&tried.expr).and_then(|name| self.functions.get(&name));
                worst(types.into_iter().flatten().map(|(_, kind)| inside(kind)))
            }
            Expr::Call(call) => match &*call.func {
                Expr::Path(path) => self.called_path(&path.path, scopes),
                _ => Kind::Unknown,
            },
            Expr::MethodCall(call) => self.called_method(call, scopes),
            Expr::Path(path) if path.path.segments.len() == 1 => {
                let name = last_name(&path.path);
                let found = scopes.iter().rev().flat_map(|scope| scope.iter().rev()).find(|(known, _)| *known == name);
                found.map_or(Kind::Unknown, |(_, kind)| *kind)
            }
            Expr::Field(field) => {
                let syn::Member::Named(name) = &field.member else { return Kind::Unknown };
                let types = self.fields.get(&name.to_string()).map(Vec::as_slice).unwrap_or_default();
                worst(types.iter().map(kind_of_type))
            }
            Expr::Closure(closure) => self.kind(&closure.body, scopes),
            Expr::Block(block) => self.tail(&block.block, scopes),
            Expr::If(test) => {
                let other = test.else_branch.as_ref().map(|(_, other)| self.kind(other, scopes));
                worst([Some(self.tail(&test.then_branch, scopes)), other].into_iter().flatten())
            }
            Expr::Match(matched) => worst(matched.arms.iter().map(|arm| self.kind(&arm.body, scopes))),
            _ => Kind::Plain,
        }
    }

    fn tail(&self, block: &syn::Block, scopes: &Scopes) -> Kind {
        match block.stmts.last() {
            Some(Stmt::Expr(value, None)) => self.kind(value, scopes),
            _ => Kind::Plain,
        }
    }

    fn closure(&self, made: &Expr, scopes: &Scopes) -> Kind {
        match made {
            Expr::Closure(closure) => self.kind(&closure.body, scopes),
            Expr::Path(path) => self.called_path(&path.path, scopes),
            _ => Kind::Unknown,
        }
    }

    fn called_path(&self, path: &syn::Path, scopes: &Scopes) -> Kind {
        let name = last_name(path);
        if path.segments.len() == 1 {
            let found = scopes.iter().rev().flat_map(|scope| scope.iter().rev()).find(|(known, _)| *known == name);
            if let Some((_, kind)) = found {
                return *kind;
            }
        }
        // `Some(..)` and other constructors.
        if name.starts_with(char::is_uppercase) {
            return Kind::Plain;
        }
        let owner = path.segments.iter().rev().nth(1).map(|segment| segment.ident.to_string());
        let owner = owner.filter(|owner| owner.starts_with(char::is_uppercase));
        // A number or text has no file.
        if owner.as_deref().is_some_and(|owner| has("CString CStr OsString Duration", owner)) {
            return Kind::Plain;
        }
        self.named(owner.as_deref(), &name)
    }

    fn called_method(&self, call: &syn::ExprMethodCall, scopes: &Scopes) -> Kind {
        let name = call.method.to_string();
        if has(KEEPS, &name) {
            let receiver = self.kind(&call.receiver, scopes);
            let made = match name.as_str() {
                "and_then" | "or_else" => call.args.first().map(|made| self.closure(made, scopes)),
                _ => None,
            };
            return match (receiver, made) {
                // Of an option and of a result they look the same: what the closure makes decides.
                (Kind::Plain | Kind::Unknown, Some(Kind::Unknown)) => receiver,
                (receiver, made) => worst([Some(receiver), made].into_iter().flatten()),
            };
        }
        if name == "transpose" {
            return Kind::Fallible;
        }
        if name == "unwrap_or_else" || name == "unwrap_or" || name == "flatten" {
            return Kind::Plain;
        }
        let owner = self.type_of(&call.receiver, scopes);
        self.named(owner.as_deref(), &name)
    }

    /// The type of `self` or of a field, by its name, where there is only one.
    fn type_of(&self, receiver: &Expr, scopes: &Scopes) -> Option<String> {
        match receiver {
            Expr::Path(path) if path.path.is_ident("self") => {
                let impls = scopes.iter().flatten().rev();
                impls.filter_map(|(name, _)| name.strip_prefix("impl ")).next().map(str::to_owned)
            }
            Expr::Field(syn::ExprField { member: syn::Member::Named(name), .. }) => {
                let types = self.fields.get(&name.to_string())?;
                let names = types.iter().map(|kind| match kind {
                    Type::Path(path) => Some(last_name(&path.path)),
                    _ => None,
                });
                let names: Vec<Option<String>> = names.collect();
                let [first, rest @ ..] = names.as_slice() else { return None };
                first.clone().filter(|_| rest.iter().all(|other| other == first))
            }
            _ => None,
        }
    }
}

/// The name of the function that is called, under what keeps its result.
fn called(value: &Expr) -> Option<String> {
    match value {
        Expr::MethodCall(call) if has(KEEPS, &call.method.to_string()) => called(&call.receiver),
        Expr::MethodCall(call) => Some(call.method.to_string()),
        Expr::Call(call) => match &*call.func {
            Expr::Path(path) => Some(last_name(&path.path)),
            _ => None,
        },
        Expr::Paren(inner) => called(&inner.expr),
        _ => None,
    }
}

fn is_call(value: &Expr) -> bool {
    called(value).is_some()
}
