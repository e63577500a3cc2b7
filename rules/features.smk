# What each encoder sees in the tiles of the tasks' slides.
# in:  results/catalog, results/tiles, results/pretrain
# out: results/features/{encoder}/{shard}


rule features:
    "The features of one encoder for the task slides of one feature shard, a file a slide."
    input:
        catalog=ancient("results/catalog/slides.parquet"),
        weights=lambda wildcards: DAG.weights(wildcards.encoder),
    output:
        table="results/features/{encoder}/{shard}.parquet",
    params:
        settings=lambda wildcards: DAG.encoder_settings(wildcards.encoder).json_text(),
        slides=lambda wildcards: DAG.features_digest(wildcards.shard),
        weights=lambda wildcards, input: f"--weights {input.weights}" if input.weights else "",
        tiles="results/tiles",
        folder="results/features/{encoder}/{shard}",
    log:
        "logs/features/{encoder}/{shard}.log",
    benchmark:
        "benchmarks/features/{encoder}/{shard}.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        "python -m microtome.features"
        " --catalog {input.catalog}"
        " --tiles {params.tiles}"
        " --slides-of {TASK_TABLES}"
        " --shard {wildcards.shard}"
        " --shards {CONFIG.features.shards}"
        " {params.weights}"
        " --folder {params.folder}"
        " --table {output.table}"
        " --batch {CONFIG.features.batch}"
        " --workers {threads}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"
