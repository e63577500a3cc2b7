# What a person reads first: tables, and the report that holds them and the figures.
# in:  results/catalog, results/schedule, results/splits, results/gma, results/figures
# out: results/tables, results/report.html


rule overlap:
    "Which patients each task shares with pretraining, and with the other tasks: stated, whatever was decided."
    input:
        catalog="results/catalog/slides.parquet",
        quota="results/schedule/quota/slides.parquet",
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        code=code("overlap", "table_files"),
    output:
        html=report(
            "results/tables/overlap.html",
            caption="captions/overlap.rst",
            category="3 Cohort",
            labels={"result": "4 Overlap with pretraining"},
        ),
        shared=report(
            "results/tables/shared.html", caption="captions/shared.rst", category="3 Cohort", labels={"result": "5 Overlap of tasks"}
        ),
        files=expand("results/tables/{table}.{kind}", table=["overlap", "shared"], kind=["csv", "md", "tex"]),
    log:
        "logs/tables/overlap.log",
    benchmark:
        "benchmarks/tables/overlap.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output.html),
    shell:
        "python -m microtome.overlap"
        " --catalog {input.catalog}"
        " --quota {input.quota}"
        " --splits {input.splits}"
        " --folder {params.folder}"
        " > {log} 2>&1"


rule tables:
    "The cohort by organ, what left it and why, the tasks, the final AUC of each encoder on each task, the pairs, and the slides left out."
    input:
        catalog="results/catalog/slides.parquet",
        attrition="results/cohort/attrition.csv",
        splits=expand("results/splits/{task}.csv", task=JOBS.tasks),
        runs=expand("results/gma/{task}/{encoder}/runs.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        predictions=expand("results/gma/{task}/{encoder}/predictions.parquet", task=JOBS.tasks, encoder=JOBS.encoders),
        excluded=expand("results/gma/{task}/{encoder}/excluded.csv", task=JOBS.tasks, encoder=JOBS.encoders),
        code=code("tables", "benchmark_tables", "comparisons", "decisions", "statistics", "table_files", "runs", "catalog"),
    output:
        auc=report("results/tables/auc.html", caption="captions/auc.rst", category="1 Results", labels={"result": "1 AUC (table)"}),
        attrition=report(
            "results/tables/attrition.html", caption="captions/attrition.rst", category="3 Cohort", labels={"result": "1 Attrition"}
        ),
        cohort=report(
            "results/tables/cohort.html", caption="captions/cohort.rst", category="3 Cohort", labels={"result": "2 Cohort by organ"}
        ),
        tasks=report("results/tables/tasks.html", caption="captions/tasks.rst", category="3 Cohort", labels={"result": "3 Tasks"}),
        left=report(
            "results/tables/left.html", caption="captions/left.rst", category="4 Data quality", labels={"result": "1 Slides that left"}
        ),
        differences=report(
            "results/tables/differences.html",
            caption="captions/differences.rst",
            category="1 Results",
            labels={"result": "4 Differences (table)"},
        ),
        excluded=report(
            "results/tables/excluded.html",
            caption="captions/excluded.rst",
            category="4 Data quality",
            labels={"result": "3 Left out of the benchmark"},
        ),
        files=expand(
            "results/tables/{table}.{kind}",
            table=["cohort", "attrition", "left", "tasks", "auc", "differences", "excluded"],
            kind=["csv", "md", "tex"],
        ),
    log:
        "logs/tables/tables.log",
    benchmark:
        "benchmarks/tables/tables.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=JOBS.tables_settings().json_text(),
        folder=lambda wildcards, output: os.path.dirname(output.cohort),
    shell:
        "python -m microtome.tables"
        " --catalog {input.catalog}"
        " --attrition {input.attrition}"
        " --splits {input.splits}"
        " --runs {input.runs}"
        " --predictions {input.predictions}"
        " --excluded {input.excluded}"
        " --folder {params.folder}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule methods:
    "Every setting that was used, the cards of the trained encoders, and the versions of the software."
    input:
        weights=[f"results/pretrain/{run}/{CONFIG.pretrain.runs[run].pseudo_epochs}/encoder.safetensors" for run in CONFIG.pretrain.runs],
        code=code("methods", "protocol", "table_files", "software", "config", "recipes"),
    output:
        html=report(
            "results/tables/methods.html", caption="captions/methods.rst", category="2 Methods", labels={"result": "Settings and software"}
        ),
        files=expand("results/tables/methods.{kind}", kind=["csv", "md", "tex"]),
    log:
        "logs/tables/methods.log",
    benchmark:
        "benchmarks/tables/methods.tsv"
    conda:
        "../envs/microtome.yaml"
    params:
        settings=CONFIG.json_text(),
        folder=lambda wildcards, output: os.path.dirname(output.html),
    shell:
        "python -m microtome.methods"
        " --weights {input.weights}"
        " --folder {params.folder}"
        " --settings {params.settings:q}"
        " > {log} 2>&1"


rule report:
    "One HTML file that holds the figures and tables with their captions, and how each was made."
    input:
        figures=expand("results/figures/{figure}.png", figure=FIGURES),
        tables=expand("results/tables/{table}.html", table=TABLES),
        captions=expand(os.path.join(HOME, "rules/captions/{caption}.rst"), caption=CAPTIONS),
        stylesheet=os.path.join(HOME, "rules/captions/report.css"),
    output:
        "results/report.html",
    log:
        "logs/report/report.log",
    benchmark:
        "benchmarks/report/report.tsv"
    conda:
        "../envs/microtome.yaml"
    shell:
        f"snakemake --snakefile {shlex.quote(workflow.main_snakefile)} {OVERLAYS} --nolock"
        " --report {output}"
        " --report-stylesheet {input.stylesheet}"
        " > {log} 2>&1"
