//! Metal source as C++: kernels are found by their signatures, and a call is made of each that fills in what its attributes ask for.
//! Everything that is not understood is an error, so that nothing passes by being overlooked.

/// A kernel of a library of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What the host calls it.
    pub(crate) name: String,
    /// What C++ calls it, template arguments and all.
    function: String,
    /// Its parameters, with their attributes.
    parameters: Vec<String>,
    /// What has C++ compile it, if it is not compiled anyway.
    pub(crate) instance: String,
}

/// The text with all kernels as plain functions, and what they are.
pub(crate) fn parse(source: &str) -> Result<(String, Vec<Kernel>), String> {
    let mut kernels = Vec::new();
    let mut templates = Vec::new();
    let mut text = String::new();
    for (i, line) in source.lines().enumerate() {
        // template [[host_name("product_F32")]] kernel product_t product<F32>;
        if let Some(rest) = line.strip_prefix("template [[host_name(\"") {
            let parts = rest.strip_suffix(';').and_then(|rest| rest.split_once("\")]] kernel "));
            let (name, rest) = parts.ok_or(format!("line {}: not an instance: {line}", i + 1))?;
            let (_, function) = rest.split_once("_t ").ok_or(format!("line {}: of which type? {line}", i + 1))?;
            templates.push((name.to_string(), function.to_string()));
            text.push('\n');
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    let mut generic = Vec::new();
    for (at, found) in text.match_indices("kernel void ") {
        let rest = &text[at + found.len()..];
        let (name, rest) = rest.split_once('(').ok_or("a kernel without parameters")?;
        let end = closing(rest).ok_or(format!("{name}: no end of its parameters"))?;
        let parameters: Vec<String> = rest[..end].split(",\n").map(|p| p.trim().to_string()).collect();
        let kernel = Kernel { name: name.to_string(), function: name.to_string(), parameters, instance: String::new() };
        if text[..at].trim_end().ends_with('>') { generic.push(kernel) } else { kernels.push(kernel) }
    }
    for (name, function) in templates {
        let base = function.split('<').next().unwrap_or_default();
        let of = generic.iter().find(|kernel| kernel.name == base).ok_or(format!("{name}: no template {base}"))?;
        let instance = format!("template {base}_t {function};");
        kernels.push(Kernel { name, function, parameters: of.parameters.clone(), instance });
    }
    // Attributes are in `parameters`.
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(" [[") {
        plain.push_str(before);
        rest = after.split_once("]]").ok_or("an attribute without end")?.1;
    }
    plain.push_str(rest);
    if plain.contains("[[") {
        return Err("an attribute that is not understood".into());
    }
    Ok((plain, kernels))
}

/// Where the parenthesis closes that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.bytes().position(|byte| {
        depth += match byte {
            b'(' => 1,
            b')' => -1,
            _ => 0,
        };
        depth == 0
    })
}

impl Kernel {
    /// What it is compiled with: the other instances of the template for the same first argument, or all that are no templates.
    pub(crate) fn family(&self) -> &str {
        if self.instance.is_empty() { "" } else { self.function.split(',').next().unwrap_or_default() }
    }

    /// The function `shim_NAME`, which runs the kernel over a grid.
    pub(crate) fn entry(&self) -> Result<String, String> {
        let arguments: Result<Vec<String>, String> = self.parameters.iter().map(|p| argument(p)).collect();
        let call = format!("{}({})", self.function, arguments?.join(", "));
        Ok(format!(
            "extern \"C\" int shim_{}(shim::Launch *launch) {{\n    \
             return shim::run_grid(launch, [](shim::Run &run, shim::Lane &lane) {{\n        \
             void *const *arguments = run.launch->arguments;\n        {call};\n    }});\n}}\n",
            self.name
        ))
    }
}

/// What a parameter gets.
fn argument(parameter: &str) -> Result<String, String> {
    let unknown = || format!("a parameter that the shim does not know: {parameter}");
    let (declared, attribute) = parameter.split_once(" [[").ok_or_else(unknown)?;
    let attribute = attribute.strip_suffix("]]").ok_or_else(unknown)?;
    let name = declared.rfind([' ', '*', '&']).ok_or_else(unknown)? + 1;
    let kind = declared[..name].trim();
    if let Some(number) = attribute.strip_prefix("buffer(") {
        let number = number.strip_suffix(')').ok_or_else(unknown)?;
        return Ok(match kind.strip_suffix('&') {
            Some(value) => format!("*({value} *)arguments[{number}]"),
            None => format!("({kind})arguments[{number}]"),
        });
    }
    let of = |expected: &str, value: &str| if kind == expected { Ok(value.to_string()) } else { Err(unknown()) };
    match attribute {
        "threadgroup(0)" => Ok(format!("({kind})run.memory")),
        "threadgroup_position_in_grid" => of("uint3", "metal::uint3{run.group[0], run.group[1], run.group[2]}"),
        "thread_index_in_threadgroup" => of("ushort", "ushort(lane.index)"),
        "thread_index_in_simdgroup" => of("ushort", "ushort(lane.lane)"),
        "simdgroup_index_in_threadgroup" => of("ushort", "ushort(lane.simdgroup)"),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "template <typename T>\nkernel void twice(\n    device T *x [[buffer(0)]],\n    \
        constant Two &p [[buffer(1)]],\n    ushort t [[thread_index_in_threadgroup]]\n) {\n}\n\
        typedef decltype(twice<float>) twice_t;\ntemplate [[host_name(\"twice_float\")]] kernel twice_t twice<float>;\n";

    #[test]
    fn a_kernel_is_called_with_what_its_attributes_ask_for() {
        let (text, kernels) = parse(SOURCE).unwrap();
        assert_eq!(kernels.iter().map(|kernel| &kernel.name[..]).collect::<Vec<_>>(), ["twice_float"]);
        assert!(!text.contains("[["));
        let call = "twice<float>((device T *)arguments[0], *(constant Two  *)arguments[1], ushort(lane.index))";
        let entry = kernels[0].entry().unwrap();
        assert!(entry.contains(call) && entry.contains(" shim_twice_float("), "{entry}");
        assert_eq!(kernels[0].family(), "twice<float>");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let wide = SOURCE.replace("ushort t", "uint3 t");
        assert!(parse(&wide).unwrap().1[0].entry().is_err());
        let other = SOURCE.replace("thread_index_in_threadgroup", "thread_position_in_grid");
        assert!(parse(&other).unwrap().1[0].entry().is_err());
        assert!(parse(&SOURCE.replace("twice<float>;", "thrice<float>;")).is_err());
    }
}
