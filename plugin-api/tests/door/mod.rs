// Goes through the exported root symbol, as the host does, of the plugin that the including file exports as `parrot`.

use impetus_plugin_api::abi_stable::library::LibHeader;
use impetus_plugin_api::abi_stable::std_types::{ROption, RStr};
use impetus_plugin_api::*;

#[allow(improper_ctypes)]
unsafe extern "C" {
    #[link_name = "impetus_plugin_root"]
    static ROOT: LibHeader;
}

extern "C" fn log(_: usize, _: LogLevel, _: RStr<'_>, _: RStr<'_>) {}
extern "C" fn thread_budget(_: usize) -> u32 {
    1
}
extern "C" fn no_extension(_: usize, _: RStr<'_>) -> ROption<Extension> {
    ROption::RNone
}

struct Silent;
impl ProgressSink for Silent {
    fn report(&self, _: f32) -> Flow {
        Flow::Continue
    }
}

/// Starts the plugin, loads a file, and reads it back token by token.
pub fn say_it_again() {
    // SAFETY: `export_plugin!` in the including file exports this symbol with this type.
    let plugin = unsafe { &ROOT }.init_root_module::<PluginRef>().expect("the layouts are one crate's");
    let manifest = String::from_utf8(plugin.manifest()().to_vec()).expect("the manifest is text");
    assert!(manifest.starts_with(r#"{"manifest":1,"id":"parrot","#), "{manifest}");

    let host =
        HostApi { handle: 0, max_log_level: LogLevel::Info, log, thread_budget, extension: no_extension };
    plugin.init()(host, "{}".into()).into_result().expect("the plugin starts");
    assert!(plugin.init()(host, "{}".into()).is_err(), "a second start is refused");

    let path = std::env::temp_dir().join(format!("impetus-{}.parrot", std::process::id()));
    std::fs::write(&path, "Polly wants a cracker").expect("the temporary folder is writable");
    let path_text = path.to_str().expect("the temporary folder's name is UTF-8");
    let progress = || ProgressSink_TO::from_value(Silent, abi_stable::sabi_trait::TD_Opaque);
    let request = LoadRequest { path: path_text.into(), format: "parrot".into(), options_json: "{}".into() };
    let model = plugin.load_model()(&request, progress()).into_result().expect("the file loads");
    std::fs::remove_file(&path).expect("the file is still there");

    let mut context = model.new_context("{}".into()).into_result().expect("a context is made");
    let options = TokenizeOptions { add_special: false, parse_special: false };
    let mut tokens = model.tokenize("wants".into(), options).into_result().expect("text tokenises").to_vec();
    let (mut position, mut said) = (0, String::new());
    loop {
        let rows = tokens.len();
        let positions: Vec<_> = (position..).take(rows).map(Position).collect();
        let mut wishes = vec![false; rows];
        wishes[rows - 1] = true;
        let batch = Batch {
            tokens: tokens.as_slice().into(),
            positions: positions.as_slice().into(),
            sequences: vec![SeqId(0); rows].leak()[..].into(),
            wants_logits: wishes.as_slice().into(),
        };
        context.decode(batch).into_result().expect("the batch is sound");
        let logits = context.logits(rows as u32 - 1).into_result().expect("the last row wants logits");
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a row is never empty");
        position += rows as u32;
        tokens = vec![Token(best as u32)];
        if model.is_end_of_generation(tokens[0]) {
            break;
        }
        said.push(best as u8 as char);
    }
    assert_eq!(said, " a cracker");

    let stray = [SeqId(99)];
    let batch = Batch {
        tokens: tokens.as_slice().into(),
        positions: [Position(0)][..].into(),
        sequences: stray[..].into(),
        wants_logits: [true][..].into(),
    };
    let refused = context.decode(batch).into_result().expect_err("sequence 99 is beyond the slots");
    assert_eq!(refused.code, ErrorCode::INVALID_ARGUMENT);
}
