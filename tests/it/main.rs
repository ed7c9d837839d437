//! All integration tests: one binary.

mod layer_tree;
mod model_case;
mod plain_driver;
mod tree_op;
mod tree_snapshot;
mod union_driver;
mod union_model;
mod union_semantics;
mod union_session;
