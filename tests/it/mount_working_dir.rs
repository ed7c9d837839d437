//! Where a container's command starts.

use std::os::unix::fs::symlink;

use super::mounts::Mounts;

#[test]
fn a_working_directory_behind_a_link_to_nothing_is_made_where_the_link_leads() {
    let mounts = Mounts::with_programs();
    mounts.mkdir("layer");
    symlink("data/missing", mounts.at("layer/link")).unwrap();
    symlink("/srv/gone", mounts.at("layer/absolute")).unwrap();
    symlink("/../../../tmp/out", mounts.at("layer/out")).unwrap();
    symlink("loop", mounts.at("layer/loop")).unwrap();
    for (dir, wanted) in [
        ("/link/deep", "/data/missing/deep"),
        ("/absolute", "/srv/gone"),
        ("/out", "/tmp/out"),
        ("/new/one", "/new/one"),
    ] {
        let config = format!("WorkingDir={dir}");
        mounts.run(&["--quiet", "build", "--from", "programs", "-t", "wd", "--config", &config, "layer"]).ok();
        let said = mounts.run(&["run-mount", "--rm", "wd", "--", "/bin/sh", "-c", "pwd -P; ls -d ."]);
        assert_eq!(said.ok(), format!("{wanted}\n.\n"), "{dir}");
    }
    for dir in ["/loop/x", "/file/x"] {
        let config = format!("WorkingDir={dir}");
        mounts.run(&["--quiet", "build", "--from", "programs", "-t", "wd", "--config", &config, "layer"]).ok();
        mounts.run(&["run-mount", "--rm", "wd", "--", "/bin/sh"]).fails(125, &["working directory", dir]);
    }
    mounts.assert_nothing_is_live();
}
