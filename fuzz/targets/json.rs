#![no_main]

layerctl_fuzz::target!("json");
