//! The documents of an archive, without its layers.

use std::collections::BTreeMap;

use layerctl::Error;
use layerctl::archive::{DocumentLimits, Documents, Wanted, normal_name, plans};
use layerctl::image::{ImageConfig, Platform, Platforms};

use super::is_one_sentence;
use super::parts::{self, Content};

struct Members(BTreeMap<String, Vec<u8>>);

impl Documents for Members {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(name).cloned())
    }
}

pub(crate) fn run(data: &[u8]) -> bool {
    let file = |part: parts::Part| match part.content {
        Content::File(content) => Some((normal_name(&part.name), content)),
        _ => None,
    };
    let members = Members(parts::parse(data).into_iter().filter_map(file).collect());
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    let wanted = Wanted { platforms: Platforms::Best(platform), names: true, limits: DocumentLimits::default() };
    match plans("archive.tar", &members, &wanted, true) {
        Ok(None) => false,
        Ok(Some(plans)) => {
            let plans = plans.images;
            assert!(!plans.is_empty(), "no image at all is an error");
            for plan in plans {
                let config = ImageConfig::parse(&plan.config).expect("the config of a plan can be read");
                let layers: Vec<_> = plan.layers.iter().map(|layer| layer.diff_id).collect();
                assert_eq!(config.diff_ids(), layers, "the layers are the config's");
                let _ = config.platform().map(|platform| platform.to_string().parse::<Platform>());
            }
            true
        }
        Err(error) => {
            is_one_sentence(&error);
            false
        }
    }
}
