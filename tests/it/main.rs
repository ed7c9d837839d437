//! All integration tests: one binary.

mod architecture;
mod layer_tree;
mod model_case;
mod own_process;
mod plain_driver;
mod review_archive;
mod review_store;
mod tree_op;
mod tree_snapshot;
mod union_crash;
mod union_driver;
mod union_limits;
mod union_metadata;
mod union_model;
mod union_names;
mod union_semantics;
mod union_session;
mod union_threads;
