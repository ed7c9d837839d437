//! What the names in a tar do not tell: it is unpacked once, as a layer. Then it is a root file system, or its files are an
//! archive of images.

use std::io::Read;

use crate::archive::{Algorithm, DirMembers, Plan, PlannedLayer, Plans, no_documents};
use crate::error::Result;
use crate::image::root_file_system_config;
use crate::import::limits::with_hint;
use crate::import::{Import, Imported, TakenAs};
use crate::store::StagedLayer;
use crate::tarball::size_text;

impl Import<'_> {
    pub(super) fn unpacked(mut self, tar: Box<dyn Read>) -> Result<Imported> {
        let task = self.progress.start(&self.archive, None);
        let layer = self.unpack(0, None, Algorithm::Sha256, tar, &*task)?.staged;
        task.finish("done");
        if self.options.taken_as != TakenAs::RootFileSystem {
            let limits = &self.options.limits;
            let dir = self.layer_dir(0).join(StagedLayer::DIFF);
            let members = DirMembers::unpacked(&self.archive, limits.documents, limits.layers.ratio, &dir)?;
            if let Some(plans) = self.plans(&members, members.look_like_image())? {
                if layer.record().size > limits.spool {
                    let most = size_text(limits.spool);
                    let why = format!("must be unpacked before it can be read, and has more than {most} bytes");
                    return Err(self.bad(None, with_hint(why, Some("spool"))));
                }
                self.begin_again();
                self.is_spooled = true;
                return self.random_access(plans, &members, &|name| members.open(name));
            }
            if self.options.taken_as == TakenAs::Image {
                return Err(no_documents(&self.archive));
            }
        }
        let diff_id = layer.record().diff_id;
        let planned = PlannedLayer { diff_id, member: String::new(), blob: None };
        let plan = Plan {
            config: root_file_system_config(diff_id, &self.options.platforms.one()),
            config_name: None,
            names: Vec::new(),
            layers: vec![planned],
            may_be_absent: false,
        };
        self.publish(Plans { images: vec![plan], notes: Vec::new() }, &[layer], true)
    }
}
