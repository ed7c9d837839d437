//! Rows in which a program works in the mount.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Result;

use crate::children;
use crate::projects::{self, git};
use crate::row::{Group, Row, Scene};
use crate::tree_walk;
use crate::world::World;

pub(crate) fn groups() -> Vec<Group> {
    let root = |rows| Group { image: Box::new(World::root), rows, disk: None };
    let work = |rows| Group { image: Box::new(World::work), rows, disk: None };
    vec![
        root(vec![Row::new("untar", "tar x of a root", untar).prepare(|scene| {
            fs::create_dir(scene.mounted.root.join("unpacked"))?;
            tree_walk::read(&scene.image.tars()[0], &mut vec![0; 1 << 20])
        })]),
        root(vec![
            Row::new("git-clone", "git clone", clone).makes_state().prepare(|scene| {
                let repository = scene.world.repository()?;
                tree_walk::read_all(&repository)
            }),
            Row::new("git-status", "git status", status).prepare(|scene| status(scene).map(drop)),
        ]),
        work(vec![Row::new("build", "C project, make -j2", build)]),
        work(vec![
            Row::new("python", "python import of 200 modules, warm", python).prepare(|scene| python(scene).map(drop)),
        ]),
        root(vec![Row::new("chown", "chown -R of a lower tree", chown)]),
    ]
}

fn untar(scene: &Scene<'_>) -> Result<Option<f64>> {
    let mut command = Command::new("tar");
    command.args(["--numeric-owner", "--same-permissions", "--same-owner", "-xf"]).arg(&scene.image.tars()[0]);
    children::time(command.arg("-C").arg(scene.mounted.root.join("unpacked"))).map(Some)
}

fn clone(scene: &Scene<'_>) -> Result<Option<f64>> {
    let mut url = std::ffi::OsString::from("file://");
    url.push(scene.world.repository()?);
    children::time(git().args(["clone", "-q"]).arg(url).arg(scene.mounted.root.join("clone"))).map(Some)
}

fn status(scene: &Scene<'_>) -> Result<Option<f64>> {
    children::time(git().arg("-C").arg(scene.mounted.root.join("clone")).args(["status", "-s"])).map(Some)
}

fn build(scene: &Scene<'_>) -> Result<Option<f64>> {
    children::time(Command::new("make").args(["-s", "-j2", "-C"]).arg(scene.mounted.root.join("project"))).map(Some)
}

fn chown(scene: &Scene<'_>) -> Result<Option<f64>> {
    children::time(Command::new("chown").args(["-R", "1:1"]).arg(scene.mounted.root.join("usr"))).map(Some)
}

fn python(scene: &Scene<'_>) -> Result<Option<f64>> {
    // The name in $PATH may be a script that looks for the real one.
    static INTERPRETER: OnceLock<String> = OnceLock::new();
    if INTERPRETER.get().is_none() {
        let path = children::output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]))?;
        let _ = INTERPRETER.set(path.trim().to_owned());
    }
    let interpreter = INTERPRETER.get().map_or("python3", String::as_str);
    let work = "import sys; sys.path.insert(0, sys.argv[1]); import package.everything; assert len([m for m in \
                sys.modules if m.startswith('package.m')]) == int(sys.argv[2])";
    let mut command = Command::new(interpreter);
    command.args(["-B", "-S", "-c", work]).arg(scene.mounted.root.join("python"));
    children::time(command.arg(projects::MODULES.to_string())).map(Some)
}
