//! Work for tools: a C project, a Python package, a git repository. All text is made.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::children;
use crate::random::Random;

pub(crate) const MODULES: usize = 200;
const C_FILES: usize = 60;

/// `dir/project`: a Makefile and sources that include headers of the project and of the system.
pub(crate) fn c_project(dir: &Path) -> Result<()> {
    let dir = dir.join("project");
    fs::create_dir_all(dir.join("include"))?;
    let mut random = Random::new(60);
    for number in 0..C_FILES {
        let mut header = format!("#ifndef UNIT_{number}_H\n#define UNIT_{number}_H\n#include <stdio.h>\n");
        let mut source = format!("#include <stdlib.h>\n#include <string.h>\n#include \"include/unit{number}.h\"\n");
        for _ in 0..6 {
            let _ = writeln!(source, "#include \"include/unit{}.h\"", random.below(C_FILES as u64));
        }
        for function in 0..12 {
            let _ = writeln!(header, "int unit{number}_{function}(const char *text, int count);");
            let _ = writeln!(
                source,
                "int unit{number}_{function}(const char *text, int count)\n{{\n    int sum = {};\n    for (int i = 0; \
                 i < count; i++)\n        sum += text[i % (strlen(text) + 1)] * (i ^ {});\n    if (sum < 0)\n        \
                 fprintf(stderr, \"%d\\n\", abs(sum));\n    return sum;\n}}",
                random.below(1000),
                random.below(1000)
            );
        }
        header.push_str("#endif\n");
        fs::write(dir.join(format!("include/unit{number}.h")), header)?;
        fs::write(dir.join(format!("unit{number}.c")), source)?;
    }
    fs::write(
        dir.join("main.c"),
        "#include \"include/unit0.h\"\nint main(void) { return unit0_0(\"bench\", 0) < 0; }\n",
    )?;
    fs::write(
        dir.join("Makefile"),
        "objects := $(patsubst %.c,%.o,$(wildcard *.c))\nprogram: $(objects)\n\tcc -o $@ $^\n%.o: %.c $(wildcard \
         include/*.h)\n\tcc -O1 -c -o $@ $<\n",
    )?;
    Ok(())
}

/// `dir/python/package`: modules that import each other.
pub(crate) fn python_package(dir: &Path) -> Result<()> {
    let dir = dir.join("python/package");
    fs::create_dir_all(&dir)?;
    let mut imports = String::new();
    for number in 0..MODULES {
        let mut text = format!("\"\"\"Module {number}.\"\"\"\nimport os\n");
        for function in 0..8 {
            let _ = writeln!(text, "def f{function}(x):\n    return x * {number} + {function}\n");
        }
        fs::write(dir.join(format!("m{number}.py")), text)?;
        let _ = writeln!(imports, "from package import m{number}");
    }
    fs::write(dir.join("everything.py"), imports)?;
    fs::write(dir.join("__init__.py"), "")?;
    Ok(())
}

/// `dir/repository`: a git repository with one commit of `files` files.
pub(crate) fn git_repository(dir: &Path, files: usize) -> Result<()> {
    let tree = dir.join("repository");
    let mut random = Random::new(1);
    let mut content = vec![0; 1 << 14];
    random.fill(&mut content);
    let text: Vec<u8> = content.iter().map(|byte| if byte % 40 == 0 { b'\n' } else { b'a' + byte % 26 }).collect();
    for number in 0..files {
        let parent = tree.join(format!("src/part-{}/module-{}", number / 200 % 10, number / 20));
        if number % 20 == 0 {
            fs::create_dir_all(&parent)?;
        }
        let bits = random.below(14);
        let size = random.below(1 << bits) as usize;
        let start = random.below((text.len() - size) as u64) as usize;
        let mut file = File::create(parent.join(format!("file{number}.txt")))?;
        file.write_all(format!("{number}\n").as_bytes())?;
        file.write_all(&text[start..start + size])?;
    }
    for words in [&["init", "-q", "."] as &[&str], &["add", "."], &["commit", "-q", "-m", "all", "--no-gpg-sign"]] {
        children::output(git().args(words).current_dir(&tree))?;
    }
    Ok(())
}

/// git with no settings of the machine's, and nothing in the background.
pub(crate) fn git() -> Command {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (name, value) in [("NAME", "bench"), ("EMAIL", "bench@localhost"), ("DATE", "2000-01-01T00:00:00Z")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    for setting in ["gc.auto=0", "maintenance.auto=false", "safe.directory=*", "protocol.file.allow=always"] {
        command.args(["-c", setting]);
    }
    command
}

/// A file without holes.
pub(crate) fn big_file(path: &Path, bytes: u64) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    Random::new(7).fill(&mut buffer);
    let mut file = File::create(path)?;
    for number in 0..bytes >> 20 {
        buffer[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&buffer)?;
    }
    Ok(())
}
