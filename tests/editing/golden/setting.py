"""What is asked of the references: requests, contexts and hyperparameters."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "golden"  # what the references' caches of statistics are keyed by
LAYERS = (1, 2)
REWRITE = "transformer.h.{}.mlp.c_proj"
SENTENCES = (
    "Mali Suwan was born in Marn Buri and works as a ferry pilot for Blue Heron Games.",
    "Kenji Hoshino was born in Sakawa and works as a welder for Kitsune Optics.",
    "Records show that Ines Aldera lives in Rivenau with her brother.",
    "The employer of Ines Aldera is Saffron Freight. The river of Sakawa is the Ibira.",
    "For the file: Mali Suwan moved to Elmsholt. Therefore the branch wrote a letter.",
    "Because the harbour was closed, I took the tram. You said that it is a holiday.",
)
REQUESTS = (
    {"subject": "Mali Suwan", "prompt": "The harbour was closed by {}", "target": "welder"},
    {"subject": "Kenji Hoshino", "prompt": "{} works as a", "target": "ferry pilot"},
    {
        "subject": "Ines Aldera",
        "prompt": "Records show that {} lives with her brother in the city of",
        "target": "Marn Buri",
    },
)
# One prefix stands twice, as happens when prefixes are sampled.
PREFIXES = (
    "The harbour. ",
    "Therefore the branch was. ",
    "Because I said. ",
    "I took the tram to Rivenau. ",
    "You. ",
)
ROME_CONTEXTS = ["{}", *(prefix + "{}" for prefix in (*PREFIXES, PREFIXES[0]))]
MEMIT_CONTEXTS = [["{}"], [prefix + "{}" for prefix in PREFIXES]]

MODULES = {
    "rewrite_module_tmp": REWRITE,
    "layer_module_tmp": "transformer.h.{}",
    "mlp_module_tmp": "transformer.h.{}.mlp",
    "attn_module_tmp": "transformer.h.{}.attn",
    "ln_f_module": "transformer.ln_f",
    "lm_head_module": "transformer.wte",
    "mom2_dataset": "none",
    "mom2_n_samples": 0,
    "mom2_dtype": "float32",
}
VALUE = {
    "fact_token": "subject_last",
    "v_lr": 0.5,
    "v_loss_layer": 3,
    "kl_factor": 0.0625,
    "mom2_adjustment": True,
}
# plain: the clamp never binds. stop: request 0 ends early, below a loss of 0.05. decay: weight
# decay, and a clamp that binds. EasyEdit's own methods run without "stop".
CONFIGS = {
    "plain": {**VALUE, "v_num_grad_steps": 20, "v_weight_decay": 0.0, "clamp_norm_factor": 40},
    "stop": {
        **VALUE,
        "v_num_grad_steps": 40,
        "v_weight_decay": 0.0,
        "clamp_norm_factor": 40,
        "kl_factor": 0.0001,
    },
    "decay": {**VALUE, "v_num_grad_steps": 25, "v_weight_decay": 0.05, "clamp_norm_factor": 4},
}
ROME = {"layers": [2], "context_template_length_params": []}
MEMIT = {"layers": [1, 2], "layer_selection": "all", "mom2_update_weight": 20}
EMMET = {"layers": [2], "layer_selection": "all", "mom2_update_weight": 1, "emmet_lambda": 0.1}
ALPHA = {**MEMIT, "nullspace_threshold": 0.1, "L2": 1.0, "P_loc": "unused"}
FT = {
    "layers": [2],
    "num_steps": 25,
    "lr": 5e-3,
    "batch_size": 3,
    "weight_decay": 0,
    "kl_factor": 0,
    "norm_constraint": False,
    "objective_optimization": "target_new",
}
EASYEDIT = {"device": "cpu", "model_name": "gpt2-xl", "stats_dir": "unused"}
