//! A container's own `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::mount_command::{containers, script_in_box};
use super::mount_points::{bare, written};
use super::mounts::{Mounts, Said, names, said};

/// The files of the container `box` in the store.
fn in_store(mounts: &Mounts) -> PathBuf {
    let id = mounts.inspect("box")["Id"].as_str().unwrap().to_owned();
    mounts.at("store/containers").join(id).join("etc")
}

/// Runs a script in a new container `box`, with these options.
fn run(mounts: &Mounts, options: &[&str], image: &str, script: &str) -> Said {
    let args = [&["run-mount", "--name", "box"], options, &[image, "--", "sh", "-c", script]].concat();
    mounts.run(&args)
}

/// The words of a line that begins with this one, for each such line.
fn lines_of<'a>(text: &'a str, keyword: &str) -> Vec<Vec<&'a str>> {
    let lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.filter(|words| words.first() == Some(&keyword)).collect()
}

#[test]
fn a_container_knows_its_own_name_and_the_host_s_name_servers() {
    let mounts = Mounts::with_programs();
    let host = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let said = run(&mounts, &[], "programs", "cat /proc/sys/kernel/hostname /etc/hostname /etc/hosts").ok();
    let (name, rest) = said.split_once('\n').unwrap();
    let (file, hosts) = rest.split_once('\n').unwrap();
    assert_eq!(file, name);
    assert_eq!(name, &mounts.inspect("box")["Id"].as_str().unwrap()[..12]);
    assert_eq!(lines_of(hosts, "127.0.0.1"), [["127.0.0.1", "localhost"], ["127.0.0.1", name]]);
    assert_eq!(lines_of(hosts, "::1"), [["::1", "localhost", "ip6-localhost", "ip6-loopback"]]);
    let resolver = script_in_box(&mounts, "cat /etc/resolv.conf").ok();
    let of_host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if !of_host.contains("127.0.0.5") {
        assert_eq!(lines_of(&resolver, "nameserver"), lines_of(&of_host, "nameserver"));
    }
    // What is written stays with the container, and with no other, also when the program did not.
    script_in_box(
        &mounts,
        "echo '192.0.2.9 mine' >> /etc/hosts; echo x > /etc/hostname; echo '# y' > /etc/resolv.conf",
    )
    .ok();
    assert_eq!(script_in_box(&mounts, "cat /etc/hosts").ok(), format!("{hosts}192.0.2.9 mine\n"));
    assert_eq!(script_in_box(&mounts, "cat /etc/hostname /etc/resolv.conf").ok(), "x\n# y\n");
    let other = mounts.run(&["run-mount", "--rm", "programs", "--", "cat", "/etc/hosts"]).ok();
    assert!(!other.contains("mine") && other.contains("localhost"), "{other}");
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap_or_default(), host);
    // It is no part of what the container has changed.
    assert_eq!(written(&mounts), Vec::<String>::new());
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "");
    mounts.run(&["cp", "box:/etc/hosts", "copied"]).ok();
    assert_eq!(mounts.read("copied"), "", "the image's");
    assert_eq!(names(&in_store(&mounts)), ["hostname", "hosts", "resolv.conf"]);
    mounts.run(&["verify"]).ok();
    mounts.run(&["rm", "box"]).ok();
    assert_eq!(names(&mounts.at("store/containers")).len(), 1, "only the directory of names");
    assert_eq!(names(&mounts.at("store/containers/names")), Vec::<String>::new());
    mounts.assert_nothing_is_live();
}

#[test]
fn the_options_say_otherwise() {
    let mounts = Mounts::with_programs();
    let options = [
        "--dns",
        "192.0.2.1",
        "--dns=2001:db8::1",
        "--dns-search",
        "a.test",
        "--dns-search=b.test",
        "--add-host",
        "one;two:192.0.2.2",
        "--add-host=six:[2001:db8::6]",
    ];
    let resolver = run(&mounts, &options, "programs", "cat /etc/resolv.conf").ok();
    assert_eq!(lines_of(&resolver, "nameserver"), [["nameserver", "192.0.2.1"], ["nameserver", "2001:db8::1"]]);
    assert_eq!(lines_of(&resolver, "search"), [["search", "a.test", "b.test"]]);
    let hosts = script_in_box(&mounts, "cat /etc/hosts").ok();
    assert_eq!(lines_of(&hosts, "192.0.2.2"), [["192.0.2.2", "one"], ["192.0.2.2", "two"]]);
    assert_eq!(lines_of(&hosts, "2001:db8::6"), [["2001:db8::6", "six"]]);
    // They stay with the container, also where the files do not.
    fs::remove_dir_all(in_store(&mounts)).unwrap();
    assert_eq!(script_in_box(&mounts, "cat /etc/hosts /etc/resolv.conf").ok(), hosts + &resolver);
    fs::write(in_store(&mounts).join("hosts"), "").unwrap();
    assert!(script_in_box(&mounts, "cat /etc/hosts").ok().contains("six"), "a power cut leaves empty files");
    for option in ["--dns=192.0.2.3", "--dns-search=.", "--add-host=a:192.0.2.3", "--no-hosts"] {
        let said = mounts.run(&["run-mount", "--name", "box", option, "--", "sh", "-c", ":"]);
        said.fails(2, &["box", "is there already", "--dns"]);
    }
    mounts.run(&["rm", "box"]).ok();
    let resolver = run(&mounts, &["--dns-search=."], "programs", "cat /etc/resolv.conf").ok();
    assert_eq!(lines_of(&resolver, "search"), Vec::<Vec<&str>>::new());
    mounts.run(&["rm", "box"]).ok();
    // A container without a command keeps them for one.
    mounts.run(&["run-mount", "--name", "box", "--add-host=one:192.0.2.4", "programs"]).ok();
    mounts.umount("box");
    assert!(script_in_box(&mounts, "cat /etc/hosts").ok().contains("192.0.2.4\tone\n"));
    mounts.run(&["rm", "box"]).ok();
    // The image's own.
    let hosts = "echo \"[$(cat /etc/hosts)]\"; echo written > /etc/hosts; cat /etc/hosts";
    assert_eq!(run(&mounts, &["--no-hosts"], "programs", hosts).ok(), "[]\nwritten\n");
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "C /etc\nC /etc/hosts\n");
    mounts.import("bare", &bare());
    let said = mounts.run(&["run-mount", "--rm", "--no-hosts", "bare", "--", "ls", "/etc"]);
    assert_eq!(said.ok(), "hostname\nresolv.conf\n");
}

#[test]
fn an_option_that_cannot_be_meant_makes_no_container() {
    let mounts = Mounts::with_programs();
    for (option, words) in [
        ("--dns=none", "none"),
        ("--dns=", "IP address"),
        ("--dns=dns.test", "dns.test"),
        ("--dns-search=", "domain"),
        ("--dns-search=a b", "a b"),
        ("--add-host=a", "NAME:ADDRESS"),
        ("--add-host=a:b", "NAME:ADDRESS"),
        ("--add-host=a:host-gateway", "host-gateway"),
    ] {
        mounts.run(&["run-mount", option, "programs", "--", "sh"]).fails(2, &[words]);
    }
    mounts.run(&["run-mount", "--no-hosts", "--add-host=a:192.0.2.1", "programs"]).fails(2, &["--no-hosts"]);
    assert_eq!(containers(&mounts), 0);
}

#[test]
fn links_of_the_image_are_followed_inside_its_root() {
    let mounts = Mounts::with_programs();
    let host = mounts.mkdir("host");
    for name in ["hosts", "hostname", "resolv.conf"] {
        fs::write(host.join(name), "of the host\n").unwrap();
    }
    let up = format!("../../../../../../../..{}", host.display());
    let absolute = host.display().to_string();
    mounts.import("bare", &bare());
    let show = "cat /etc/resolv.conf";
    for (from, link, target, wanted) in [
        // To nothing, in all ways: the link itself is covered.
        ("programs", "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf", Some(true)),
        ("programs", "etc/resolv.conf", "/run/resolvconf/resolv.conf", Some(true)),
        ("programs", "etc/resolv.conf", "resolv.conf", Some(true)),
        ("programs", "etc/resolv.conf", "/file/x", Some(true)),
        ("programs", "etc/resolv.conf", &format!("{absolute}/resolv.conf"), Some(true)),
        ("programs", "etc/resolv.conf", &format!("{up}/resolv.conf"), Some(true)),
        ("programs", "etc/resolv.conf", "/proc/self/root/etc/resolv.conf", Some(true)),
        // To a file of the image.
        ("programs", "etc/resolv.conf", "/file", Some(true)),
        ("programs", "etc/resolv.conf", "../../../../file", Some(true)),
        // A directory cannot be covered by a file.
        ("programs", "etc/resolv.conf", "/srv", Some(false)),
        // The whole directory.
        ("bare", "etc", "/real", Some(true)),
        ("bare", "etc", &absolute, Some(false)),
        ("bare", "etc", &up, Some(false)),
        ("bare", "etc", "/file", Some(false)),
        // There is no such user either, for the same reason.
        ("bare", "etc", "etc", None),
        ("bare", "etc", "/proc/1/root/etc", None),
    ] {
        let _ = fs::remove_dir_all(mounts.at("layer"));
        fs::create_dir_all(mounts.at("layer").join(link).parent().unwrap()).unwrap();
        mounts.write("layer/real/resolv.conf", "of the image\n");
        symlink(target, mounts.at("layer").join(link)).unwrap();
        mounts.run(&["--quiet", "build", "--from", from, "-t", "links", "layer"]).ok();
        for option in ["--read-only", "--dns-search=."] {
            let said = run(&mounts, &[option, "--dns=192.0.2.1"], "links", show);
            let Some(wanted) = wanted else {
                // A loop is an error of the system; a link of proc is one of the image.
                said.fails(if target == "etc" { 125 } else { 2 }, &["/etc/passwd"]);
                continue;
            };
            let is_ours = said.code == 0 && said.out.contains("nameserver 192.0.2.1\n");
            assert_eq!(is_ours, wanted, "{link} -> {target} {option}: {said:?}");
            assert!(!said.out.contains("of the host"), "{link} -> {target}: {said:?}");
            if is_ours && link != "etc" && target == "/file" {
                assert!(script_in_box(&mounts, "cat /file").ok().contains("192.0.2.1"), "as docker has it");
            }
            if is_ours && option != "--read-only" {
                script_in_box(&mounts, "echo written >> /etc/resolv.conf").ok();
                assert!(script_in_box(&mounts, show).ok().ends_with("written\n"), "{link} -> {target}");
            }
            // Nothing was made for it, neither where a link leads to nor where it is.
            assert_eq!(written(&mounts), Vec::<String>::new(), "{link} -> {target}");
            assert_eq!(mounts.run(&["diff", "box"]).ok(), "", "{link} -> {target}");
            mounts.run(&["rm", "box"]).ok();
        }
        for name in ["hosts", "hostname", "resolv.conf"] {
            assert_eq!(fs::read_to_string(host.join(name)).unwrap(), "of the host\n");
        }
        mounts.run(&["rmi", "links"]).ok();
    }
    mounts.assert_nothing_is_live();
}

/// Where the image has none of the files, and `etc` is elsewhere in it.
#[test]
fn an_etc_that_is_a_link_has_them_where_it_leads() {
    let mounts = Mounts::new();
    mounts.import("bare", &bare());
    let show = "cat /etc/hostname /etc/hosts /etc/resolv.conf; cat $1/hosts; ls -A $1";
    for (links, place, others) in [
        (&[("etc", "real/conf")][..], "/real/conf", "own\n"),
        (&[("etc", "/real/conf")], "/real/conf", "own\n"),
        (&[("etc", "one"), ("one", "/two"), ("two", "../../real/./conf//")], "/real/conf", "own\n"),
        (&[("etc", "one/conf"), ("one", "real")], "/real/conf", "own\n"),
        (&[("etc", "/")], "/", ""),
    ] {
        let _ = fs::remove_dir_all(mounts.at("layer"));
        mounts.mkdir("layer/real/conf");
        mounts.write("layer/real/conf/own", "");
        for (link, target) in links {
            symlink(target, mounts.at("layer").join(link)).unwrap();
        }
        mounts.run(&["--quiet", "build", "--from", "bare", "-t", "links", "layer"]).ok();
        for option in ["--read-only", "--dns-search=."] {
            let args = ["run-mount", "--name", "box", option, "--dns=192.0.2.1", "links", "--"];
            let said = mounts.run(&[&args[..], &["sh", "-c", show, "sh", place]].concat()).ok();
            assert_eq!(said.matches("127.0.0.1\tlocalhost\n").count(), 2, "{links:?} {option}: {said}");
            assert!(said.contains("nameserver 192.0.2.1\n"), "{links:?} {option}: {said}");
            let listed = said.rsplit("127.0.0.1\t").next().unwrap();
            let has = |name: &str| listed.lines().any(|line| line == name);
            assert!(["hostname", "hosts", "resolv.conf"].into_iter().all(has), "{links:?} {option}: {said}");
            assert!(others.is_empty() || has(others.trim_end()), "{links:?} {option}: {said}");
            // They are of the mount only.
            assert_eq!(written(&mounts), Vec::<String>::new(), "{links:?}");
            assert_eq!(mounts.run(&["diff", "box"]).ok(), "", "{links:?}");
            mounts.run(&["export", "box", "-o", "exported.tar"]).ok();
            let exported = fs::read(mounts.at("exported.tar")).unwrap();
            let mut names = tar::Archive::new(&*exported);
            let mut names = names.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
            assert!(names.all(|name| !name.ends_with("hosts") && !name.ends_with("resolv.conf")), "{links:?}");
            mounts.run(&["rm", "box"]).ok();
        }
        mounts.run(&["rmi", "links"]).ok();
    }
    // A link that is in the rw layer only. What overlayfs has made there hides all that layers have (docs/semantics.md).
    if super::mounts::by_kernel() {
        return;
    }
    let container = mounts.mount(&["--name", "box", "bare"]);
    fs::create_dir(container.mountpoint.join("moved")).unwrap();
    symlink("moved", container.mountpoint.join("etc")).unwrap();
    mounts.umount("box");
    assert!(script_in_box(&mounts, "cat /moved/hosts").ok().contains("localhost"));
    mounts.assert_nothing_is_live();
}

#[test]
fn inspect_has_the_places_of_the_files() {
    let mounts = Mounts::with_programs();
    let keys = ["HostnamePath", "HostsPath", "ResolvConfPath"];
    let places = || keys.map(|key| mounts.inspect("box")[key].as_str().unwrap().to_owned());
    run(&mounts, &[], "programs", ":").ok();
    let dir = in_store(&mounts);
    assert_eq!(places(), ["hostname", "hosts", "resolv.conf"].map(|name| dir.join(name).display().to_string()));
    assert!(fs::read_to_string(&places()[1]).unwrap().contains("localhost"));
    // The next command makes them again.
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(places(), ["", "", ""]);
    mounts.run(&["rm", "box"]).ok();
    run(&mounts, &["--no-hosts"], "programs", ":").ok();
    assert_eq!(places().map(|place| place.is_empty()), [false, true, false]);
}

#[test]
fn a_link_to_nothing_that_is_covered_stays() {
    let mounts = Mounts::with_programs();
    mounts.mkdir("layer/etc");
    symlink("/run/none", mounts.at("layer/etc/resolv.conf")).unwrap();
    mounts.run(&["--quiet", "build", "--from", "programs", "-t", "links", "layer"]).ok();
    let inside = "rm /etc/resolv.conf || echo busy; ls -ld /etc/resolv.conf; cat /etc/resolv.conf";
    let said = run(&mounts, &["--dns=192.0.2.1"], "links", inside);
    assert!(said.code == 0 && said.err.contains("busy"), "{said:?}");
    assert!(said.out.starts_with("busy\n-rw") && said.out.contains("192.0.2.1"), "{said:?}");
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "");
    // Through the mount of the host's side, where it is not covered, it is the image's.
    let container = mounts.mount(&["--name", "box"]);
    assert_eq!(fs::read_link(container.mountpoint.join("etc/resolv.conf")).unwrap(), PathBuf::from("/run/none"));
    mounts.umount("box");
}

#[test]
fn a_command_can_write_them_and_nothing_more() {
    let mounts = Mounts::with_programs();
    let inside = "echo '#!/bin/sh' > /etc/hosts; chmod 4755 /etc/hosts; /etc/hosts || echo no; \
                  rm /etc/hosts || echo busy; cat /proc/self/mountinfo";
    let said = run(&mounts, &[], "programs", inside);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("no\nbusy\n"), "{said:?}");
    for name in ["hosts", "hostname", "resolv.conf"] {
        let line = said.out.lines().find(|line| line.contains(&format!(" /etc/{name} "))).unwrap();
        let options = line.split(' ').nth(5).unwrap();
        assert!(
            ["rw", "nosuid", "nodev", "noexec"].iter().all(|word| options.split(',').any(|one| one == *word)),
            "{line}"
        );
    }
    // No other user comes to what may be a program now, whatever the store's own mode is.
    let dir = fs::metadata(in_store(&mounts)).unwrap();
    assert_eq!((dir.mode() & 0o7777, dir.uid()), (0o700, 0));
    assert_eq!(fs::metadata(in_store(&mounts).join("hosts")).unwrap().permissions().mode() & 0o7777, 0o4755);
    let said = mounts.run(&["run-mount", "--name", "box", "--read-only", "--", "sh", "-c", "echo x >> /etc/hosts"]);
    assert!(said.code != 0 && said.err.contains("Read-only file system"), "{said:?}");
}

#[test]
fn the_servers_behind_a_stub_are_the_container_s() {
    let mounts = Mounts::with_programs();
    mounts.write("stub", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch stub.test\n");
    mounts.write("real", "nameserver 192.0.2.53\n");
    let mut command = mounts.command("unshare");
    // Nothing of the host is changed but in a mount namespace of its own.
    let script = "mount --bind stub /etc/resolv.conf && mount -t tmpfs none /run && mkdir -p /run/systemd/resolve && \
                  $1 cp real /run/systemd/resolve/resolv.conf; exec \"$L\" run-mount --rm programs -- cat /etc/resolv.conf";
    let shown = |with: &str, command: &mut std::process::Command| {
        said(command.env("L", super::mounts::PROGRAM).args(["-m", "sh", "-c", script, "sh", with])).ok()
    };
    let resolver = shown("", &mut command);
    let words = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&resolver), ["nameserver 192.0.2.53", "search stub.test", "options edns0 trust-ad"]);
    // Without it the stub is what there is; the network is the host's.
    let resolver = shown(":", &mut mounts.command("unshare"));
    assert_eq!(words(&resolver), ["nameserver 127.0.0.53", "search stub.test", "options edns0 trust-ad"]);
}

#[test]
fn a_store_that_cannot_be_bound_has_them_too() {
    let mounts = Mounts::new();
    let dir = mounts.mkdir("store");
    rustix::mount::mount("tmpfs", &dir, "tmpfs", rustix::mount::MountFlags::empty(), c"mode=755").unwrap();
    rustix::mount::mount_change(&dir, rustix::mount::MountPropagationFlags::UNBINDABLE).unwrap();
    mounts.import("programs", super::root_fs::programs());
    let hosts = mounts.run(&["run-mount", "--rm", "programs", "--", "cat", "/etc/hosts"]);
    rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(hosts.ok().contains("localhost"));
}

#[test]
fn what_is_no_file_in_the_image_is_covered_unless_it_is_a_directory() {
    let mounts = Mounts::with_programs();
    mounts.mkdir("layer/etc/hosts/inner");
    let fifo = mounts.at("layer/etc/resolv.conf");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    mounts.run(&["--quiet", "build", "--from", "programs", "-t", "odd", "layer"]).ok();
    let said = run(&mounts, &["--dns=192.0.2.1"], "odd", "ls /etc/hosts; cat /etc/resolv.conf /etc/hostname").ok();
    assert!(said.starts_with("inner\n") && said.contains("nameserver 192.0.2.1\n"), "{said}");
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "");
}
