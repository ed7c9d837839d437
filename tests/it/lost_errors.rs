//! No source takes a failed system call for an answer.
//!
//! clippy forbids the methods that hide an error by their type (`clippy.toml`). It has no lint for patterns, and none that
//! tells a failed read from a failed `parse`; so this test reads the sources. It refuses, over a result that may come
//! from a system call:
//!
//! - `.ok()`, `.is_ok()`, `.is_err()`, `.unwrap_or*()`, `.map_or*()`, `.flatten()`, `Result::ok` as a function, `drop(..)`;
//! - `if let Ok(..)`, `while let Ok(..)`, `let Ok(..) = .. else`, `matches!(.., Ok(..))`, `_ = ..`;
//! - `match` with an arm `Err(_)` or `_` beside one of `Ok`.
//!
//! `lost_errors_origin.rs` says what may come from a system call. Each place decides by the kind of the error (`?`, or a
//! `match` on `ENOENT`: `sys::fs::absent`), or gives a reason in a comment directly above it: `// error: the reason`.

use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Expr, Pat};

use crate::lost_errors_origin::{Origin, Signatures, is_test, sources};

struct Search<'a> {
    signatures: &'a Signatures,
    /// The enclosing function's parameters and bindings, the innermost last.
    scopes: Vec<Vec<Origin>>,
    statements: Vec<Span>,
    lines: Vec<&'a str>,
    found: Vec<(usize, String)>,
}

impl Search<'_> {
    fn refuse(&mut self, at: Span, what: &str) {
        let line = at.start().line;
        let starts = [Some(line), self.statements.last().map(|span| span.start().line)];
        if !starts.into_iter().flatten().any(|line| self.has_reason(line)) {
            self.found.push((line, what.to_owned()));
        }
    }

    /// Whether the comment directly above the line (counted from 1) gives a reason.
    fn has_reason(&self, line: usize) -> bool {
        let above = self.lines[..line - 1].iter().rev().map(|text| text.trim());
        let mut comment = above.take_while(|text| text.starts_with("//") && !text.starts_with("///"));
        comment.any(|text| text.strip_prefix("// error: ").is_some_and(|reason| reason.split(' ').count() > 2))
    }

    fn may_fail(&self, value: &Expr) -> bool {
        self.signatures.may_fail(value, &self.scopes)
    }

    /// Methods that both `Option` and `Result` have: only what is known to be a result counts.
    fn is_result(&self, value: &Expr) -> bool {
        self.signatures.is_result(value, &self.scopes)
    }
}

fn is_ok_pattern(pattern: &Pat) -> bool {
    match pattern {
        Pat::TupleStruct(inner) => {
            inner.path.segments.last().is_some_and(|name| name.ident == "Ok") || inner.elems.iter().any(is_ok_pattern)
        }
        Pat::Or(or) => or.cases.iter().any(is_ok_pattern),
        Pat::Tuple(tuple) => tuple.elems.iter().any(is_ok_pattern),
        Pat::Paren(inner) => is_ok_pattern(&inner.pat),
        Pat::Reference(inner) => is_ok_pattern(&inner.pat),
        Pat::Guard(inner) => is_ok_pattern(&inner.pat),
        _ => false,
    }
}

/// `_`, `Err(_)`, also as one of several, without looking at the error.
fn loses_error(pattern: &Pat) -> bool {
    match pattern {
        Pat::Wild(_) => true,
        Pat::TupleStruct(inner) => {
            inner.path.segments.last().is_some_and(|name| name.ident == "Err")
                && inner.elems.iter().all(|inner| matches!(inner, Pat::Wild(_) | Pat::Rest(_)))
        }
        Pat::Or(or) => or.cases.iter().any(loses_error),
        Pat::Guard(inner) => loses_error(&inner.pat),
        _ => false,
    }
}

/// `Err(error)` or `Err(KIND)`.
fn looks_at_error(pattern: &Pat) -> bool {
    match pattern {
        Pat::TupleStruct(inner) => {
            inner.path.segments.last().is_some_and(|name| name.ident == "Err") && !loses_error(pattern)
        }
        Pat::Or(or) => or.cases.iter().any(looks_at_error),
        Pat::Guard(inner) => looks_at_error(&inner.pat),
        _ => false,
    }
}

fn names_poison(call: &syn::ExprMethodCall) -> bool {
    matches!(call.args.first(), Some(Expr::Path(path)) if path.path.segments[0].ident == "PoisonError")
}

impl<'ast> Visit<'ast> for Search<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.scopes.push(self.signatures.parameters(signature));
        visit::visit_signature(self, signature);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        visit::visit_item_fn(self, function);
        self.scopes.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        visit::visit_impl_item_fn(self, function);
        self.scopes.pop();
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        visit::visit_trait_item_fn(self, function);
        self.scopes.pop();
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        self.scopes.push(Signatures::owner(block));
        visit::visit_item_impl(self, block);
        self.scopes.pop();
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.scopes.push(Vec::new());
        visit::visit_block(self, block);
        self.scopes.pop();
    }

    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        self.statements.push(statement.span());
        visit::visit_stmt(self, statement);
        self.statements.pop();
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.statements.push(arm.span());
        visit::visit_arm(self, arm);
        self.statements.pop();
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        visit::visit_local(self, local);
        let Some(init) = &local.init else { return };
        if init.diverge.is_some() && is_ok_pattern(&local.pat) && self.may_fail(&init.expr) {
            self.refuse(local.span(), "`let Ok(..) = .. else` over a system call");
        }
        let origin = self.signatures.origin_of_binding(local, &self.scopes);
        if let (Some(origin), Some(scope)) = (origin, self.scopes.last_mut()) {
            scope.push(origin);
        }
    }

    fn visit_expr_let(&mut self, test: &'ast syn::ExprLet) {
        visit::visit_expr_let(self, test);
        if is_ok_pattern(&test.pat) && self.may_fail(&test.expr) {
            self.refuse(test.span(), "`let Ok(..)` over a system call");
        }
    }

    fn visit_expr_match(&mut self, matched: &'ast syn::ExprMatch) {
        visit::visit_expr_match(self, matched);
        if !matched.arms.iter().any(|arm| is_ok_pattern(&arm.pat)) || !self.may_fail(&matched.expr) {
            return;
        }
        // Where another arm has looked at the error, this one is a decision on the other kinds.
        if matched.arms.iter().any(|arm| looks_at_error(&arm.pat)) {
            return;
        }
        for arm in matched.arms.iter().filter(|arm| loses_error(&arm.pat)) {
            // `_ => Err(..)` is still an error.
            let is_error = matches!(&*arm.body, Expr::Call(call) if matches!(&*call.func, Expr::Path(path) if path.path.is_ident("Err")));
            if !is_error {
                self.refuse(arm.span(), "an arm for any error of a system call");
            }
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        visit::visit_expr_method_call(self, call);
        let name = call.method.to_string();
        let is_lost = match name.as_str() {
            "ok" | "is_ok" | "is_err" | "is_ok_and" | "is_err_and" => self.may_fail(&call.receiver),
            // Of a lock, which is no system call's.
            "unwrap_or_else" if names_poison(call) => false,
            "unwrap_or" | "unwrap_or_else" | "unwrap_or_default" | "map_or" | "map_or_else" => {
                self.is_result(&call.receiver)
            }
            "flatten" => self.signatures.yields_results(&call.receiver, &self.scopes),
            _ => false,
        };
        if is_lost {
            self.refuse(call.method.span(), &format!("`.{name}()` over a system call"));
        }
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [kind, method] = names.as_slice()
            && kind == "Result"
            && ["ok", "is_ok", "is_err"].contains(&method.as_str())
        {
            self.refuse(path.span(), "`Result::ok` as a function: write what becomes of the error");
        }
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        visit::visit_expr_call(self, call);
        let is_drop = matches!(&*call.func, Expr::Path(path) if path.path.is_ident("drop"));
        if is_drop
            && call
                .args
                .first()
                .is_some_and(|value| matches!(value, Expr::Call(_) | Expr::MethodCall(_)) && self.is_result(value))
        {
            self.refuse(call.span(), "`drop(..)` of a system call's result");
        }
    }

    fn visit_expr_assign(&mut self, assigned: &'ast syn::ExprAssign) {
        visit::visit_expr_assign(self, assigned);
        if matches!(&*assigned.left, Expr::Infer(_)) && self.may_fail(&assigned.right) {
            self.refuse(assigned.span(), "`_ = ..` of a system call's result");
        }
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        // Of the other macros the arguments are looked at as far as they are expressions.
        if called.path.is_ident("matches") {
            let parse = |input: syn::parse::ParseStream<'_>| {
                let value: Expr = input.parse()?;
                input.parse::<syn::Token![,]>()?;
                let pattern = Pat::parse_multi_with_leading_vert(input)?;
                input.parse::<proc_macro2::TokenStream>()?;
                Ok((value, pattern))
            };
            let (value, pattern) = called.parse_body_with(parse).expect("the arguments of matches!");
            self.visit_expr(&value);
            if is_ok_pattern(&pattern) && self.may_fail(&value) {
                self.refuse(called.span(), "`matches!(.., Ok(..))` over a system call");
            }
        } else if let Ok(arguments) =
            called.parse_body_with(syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated)
        {
            for argument in &arguments {
                self.visit_expr(argument);
            }
        }
    }
}

fn lost_in(text: &str, signatures: &Signatures) -> Vec<(usize, String)> {
    let file = syn::parse_file(text).expect("a source");
    let lines = text.lines().collect();
    let mut search = Search { signatures, scopes: vec![Vec::new()], statements: Vec::new(), lines, found: Vec::new() };
    search.visit_file(&file);
    search.found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn no_error_of_a_system_call_is_taken_for_an_answer() {
    let signatures = Signatures::of(&src());
    let mut lost = Vec::new();
    for file in sources(&src()) {
        let text = std::fs::read_to_string(&file).expect("read a source");
        for (line, what) in lost_in(&text, &signatures) {
            lost.push(format!("{}:{line}: {what}", file.display()));
        }
    }
    assert!(
        lost.is_empty(),
        "{} places. Decide by the kind of the error (`?`; `sys::fs::absent` or a match on ENOENT), or say why none\n\
         matters in a comment directly above, `// error: the reason`. A function that makes no system call at all belongs\n\
         into NO_SYSTEM_CALL of lost_errors_origin.rs.\n{}",
        lost.len(),
        lost.join("\n")
    );
}

#[test]
fn each_way_to_lose_an_error_is_found() {
    let signatures = Signatures::of(&src());
    let lost = |body: &str| lost_in(&format!("fn f(path: &Path, way: Option<u8>) {{\n{body}\n}}"), &signatures).len();
    for body in [
        "let x = std::fs::read(path).ok();",
        "let x = std::fs::read(path).is_ok();",
        "let x = std::fs::read(path).map(|x| x.len()).is_err();",
        "let x = std::fs::read(path).unwrap_or_default();",
        "let x = std::fs::read(path); g(x.unwrap_or_default());",
        "let x = std::fs::read(path).map_or(0, |x| x.len());",
        "for entry in std::fs::read_dir(path)?.flatten() {}",
        "let x = std::fs::read_dir(path)?.filter_map(Result::ok);",
        "let x = std::fs::read_dir(path)?.filter_map(|entry| entry.ok());",
        "if let Ok(x) = std::fs::read(path) {}",
        "while let Ok(x) = std::fs::read(path) {}",
        "if true && let Ok(x) = std::fs::read(path) {}",
        "let Ok(x) = std::fs::read(path) else { return };",
        "let x = matches!(std::fs::read(path), Ok(_));",
        "match std::fs::read(path) { Ok(x) => g(x), Err(_) => {} }",
        "match std::fs::read(path) { Ok(x) => g(x), _ => {} }",
        "_ = std::fs::remove_file(path);",
        "drop(std::fs::remove_file(path));",
        "g(std::fs::read(path).and_then(|x| y(x)).ok());",
        "assert!(std::fs::read(path).is_ok());",
        "// error: short\nlet x = std::fs::read(path).ok();",
        "// error: it stands too far away\n\nlet x = std::fs::read(path).ok();",
    ] {
        assert_eq!(lost(body), 1, "{body}");
    }
    for body in [
        "let x = way.unwrap_or_default();",
        "let x = std::fs::read(path)?;",
        "let x = std::fs::read(path)?.get(..3).unwrap_or_default();",
        "let x = text.parse::<u8>().ok();",
        "let x = String::from_utf8(bytes).is_ok();",
        "let x = usize::try_from(y).unwrap_or(usize::MAX);",
        "if let Ok(x) = usize::try_from(y) {}",
        "match std::fs::read(path) { Ok(x) => g(x), Err(error) if is(error) => {}, Err(error) => return error }",
        "match std::fs::read(path) { Ok(x) => g(x), _ => Err(1) }",
        "// error: there is nothing that depends on it\nlet x = std::fs::read(path).ok();",
        "let x = [1]\n    .map(|_| 2)\n    // error: there is nothing that depends on it\n    .map(|_| std::fs::read(path).ok());",
        "let x = path.iter().flatten();",
    ] {
        assert_eq!(lost(body), 0, "{body}");
    }
}
