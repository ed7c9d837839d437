#![no_main]

layerctl_fuzz::target!("union");
