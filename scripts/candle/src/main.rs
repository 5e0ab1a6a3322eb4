//! `candle-speed model.gguf TEXTS TOKENS`: tokens a second of a forward pass of candle's `quantized_qwen3`, one figure for
//! each line of standard input. It takes texts one after another: its attention on processors knows no batches.

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_qwen3::ModelWeights;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, texts, tokens] = &arguments[..] else { return Err("usage: candle-speed GGUF TEXTS TOKENS".into()) };
    let (texts, tokens): (usize, usize) = (texts.parse()?, tokens.parse()?);
    let mut file = std::fs::File::open(path)?;
    let content = Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let mut pass = || -> candle_core::Result<()> {
        for text in 0..texts {
            model.clear_kv_cache();
            let ids: Vec<u32> = (0..tokens).map(|i| ((i * 7 + text) % 1000) as u32).collect();
            model.forward(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?, 0)?;
        }
        Ok(())
    };
    pass()?;
    for line in std::io::stdin().lines() {
        line?;
        let start = Instant::now();
        pass()?;
        println!("{:.2}", (texts * tokens) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
