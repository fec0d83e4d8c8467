"""Spec to everything a trial is made of: the only place where a name picks a class, split by kind."""

from trainer.build.methods import METHODS, build_mask, build_method
from trainer.build.networks import DTYPES, NETWORKS, bare_network, build_discriminator, build_network
from trainer.build.players import as_critic, build_second_player, build_student
from trainer.build.trials import PREDICTORS, build_pools, build_trial, open_data, wrap_for_ranks

__all__ = [
    "DTYPES",
    "METHODS",
    "NETWORKS",
    "PREDICTORS",
    "as_critic",
    "bare_network",
    "build_discriminator",
    "build_mask",
    "build_method",
    "build_network",
    "build_pools",
    "build_second_player",
    "build_student",
    "build_trial",
    "open_data",
    "wrap_for_ranks",
]
