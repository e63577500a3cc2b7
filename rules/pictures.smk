# The figures in which a person sees tiles, or their features. PDF and PNG, each with a CSV that says which tiles they are.
# in:  results/quality, results/gma, results/tiles, the slides
# out: results/figures


rule figure_neighbours:
    "A few tiles of the sample, the same for every encoder, and the tiles of other patients that the encoder puts nearest to each."
    input:
        sample="results/quality/sample.parquet",
        features="results/quality/{encoder}/features.h5",
        code=code("figure_neighbours", "figure_style", "tile_sheet"),
    output:
        pdf="results/figures/neighbours/{encoder}.pdf",
        png=report(
            "results/figures/neighbours/{encoder}.png",
            caption="captions/neighbours.rst",
            category="6 Tiles",
            labels={"result": "Nearest, {encoder}"},
        ),
        csv="results/figures/neighbours/{encoder}.csv",
    log:
        "logs/figures/neighbours/{encoder}.log",
    benchmark:
        "benchmarks/figures/neighbours/{encoder}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        tiles="results/tiles",
        queries=CONFIG.figures.neighbour_queries,
        neighbours=CONFIG.figures.neighbours,
        seed=CONFIG.seed,
        label=lambda wildcards: JOBS.figures_settings().labels[wildcards.encoder],
    shell:
        "python -m microtome.figure_neighbours"
        " --sample {input.sample}"
        " --features {input.features}"
        " --tiles {params.tiles}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --queries-shown {params.queries}"
        " --neighbours {params.neighbours}"
        " --seed {params.seed}"
        " --label {params.label:q}"
        " > {log} 2>&1"


rule figure_attention:
    "Where the aggregators of a task look on the slides predicted best and worst: a map over each slide, and tiles."
    input:
        predictions=expand("results/gma/{{task}}/{encoder}/predictions.parquet", encoder=last_checkpoints(JOBS.encoders)),
        attention=expand("results/gma/{{task}}/{encoder}/attention.parquet", encoder=last_checkpoints(JOBS.encoders)),
        catalog=COORDS or ancient(CATALOG),
        code=code(
            *("figure_attention", "attended", "comparisons", "slide_map", "slide_tiles", "slide_pixels", "thumbnails", "one_level"),
            *("figure_style", "tile_sheet"),
        ),
    output:
        pdf="results/figures/attention/{task}.pdf",
        png=report(
            "results/figures/attention/{task}.png",
            caption="captions/attention.rst",
            category="6 Tiles",
            labels={"result": "Attention, {task}"},
        ),
        csv="results/figures/attention/{task}.csv",
    log:
        "logs/figures/attention/{task}.log",
    benchmark:
        "benchmarks/figures/attention/{task}.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=lambda wildcards: JOBS.attention_settings(wildcards.task).json_text(),
        slides=lambda wildcards: JOBS.task_digest(wildcards.task, SLIDE_COLUMNS),
        made_with=JOBS.tile_settings_digest,
        tiles=CONFIG.features.coords or "results/tiles",
    shell:
        "python -m microtome.figure_attention"
        " --predictions {input.predictions}"
        " --catalog {input.catalog}"
        " --tiles {params.tiles}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule figure_pca:
    "The sample's tiles on the first two principal components of each encoder's features, coloured by organ."
    input:
        sample="results/quality/sample.parquet",
        features=expand("results/quality/{encoder}/features.h5", encoder=JOBS.nulls_and_last()),
        code=code("figure_pca", "figure_style", "runs"),
    output:
        pdf="results/figures/pca.pdf",
        png=report(
            "results/figures/pca.png",
            caption="captions/pca.rst",
            category="1 Results",
            labels={"result": "9 Without labels (components by organ)"},
        ),
        csv="results/figures/pca.csv",
    log:
        "logs/figures/pca.log",
    benchmark:
        "benchmarks/figures/pca.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.figures_settings().json_text(),
    shell:
        "python -m microtome.figure_pca"
        " --sample {input.sample}"
        " --features {input.features}"
        " --pdf {output.pdf}"
        " --png {output.png}"
        " --csv {output.csv}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
