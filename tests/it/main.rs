//! All integration tests: one binary.

mod architecture;
mod archives;
mod cli;
mod fixtures;
#[path = "../../fixtures/generator.rs"]
mod generator;
mod import_forms;
mod import_known;
mod import_metadata;
mod import_refusals;
mod layer_tree;
mod listing;
mod model_case;
mod mount_command;
mod mount_container;
mod mount_data;
mod mount_union;
mod mounts;
mod own_process;
mod plain_driver;
mod review_archive;
mod review_store;
mod store_images;
mod store_leftovers;
mod tree_op;
mod tree_snapshot;
mod union_changes;
mod union_crash;
mod union_driver;
mod union_limits;
mod union_metadata;
mod union_model;
mod union_names;
mod union_semantics;
mod union_session;
mod union_threads;
