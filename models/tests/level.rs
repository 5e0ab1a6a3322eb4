//! The formats of each level against what `llama-quantize` chooses (`scripts/level_fixtures.py`).

use qembed_models::{Level, Place};
use std::collections::BTreeSet;

#[test]
fn every_tensor_has_the_type_that_llama_quantize_gives_it() {
    let mut seen = BTreeSet::new();
    for line in include_str!("data/levels.txt").lines() {
        let mut fields = line.split(' ');
        let mut field = || fields.next().expect("three fields and the types");
        let (shape, level, kind) = (field(), field(), field());
        let (hidden, ffn, heads) = match shape {
            "0.6b" => (1024, 3072, 16),
            "4b" => (2560, 9728, 32),
            "8b" => (4096, 12288, 32),
            "odd" => (288, 816, 8),
            other => panic!("unknown shape {other}"),
        };
        let types: Vec<&str> = fields
            .flat_map(|run| {
                let (name, count) = run.rsplit_once('x').expect("TYPExCOUNT");
                std::iter::repeat_n(name, count.parse().expect("a count"))
            })
            .collect();
        if kind.ends_with("_norm") {
            assert!(types.iter().all(|name| *name == "F32"), "{line}");
            continue;
        }
        let row_len = match kind {
            "ffn_down" => ffn,
            "attn_output" => heads * 128,
            _ => hidden,
        };
        let wanted: Level = level.parse().expect("a level");
        for (layer, name) in types.iter().enumerate() {
            let place = Place {
                layer,
                layers: if kind == "token_embd" { 28 } else { types.len() },
                group: heads / 8,
                tied: true,
            };
            let format = wanted.format(kind, place, row_len);
            assert_eq!(format.name(), *name, "{shape} {level} {kind} of layer {layer}");
        }
        seen.insert((shape, level));
    }
    assert_eq!(seen.len(), 4 * Level::ALL.len());
}
