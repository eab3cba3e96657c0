from __future__ import annotations

from dataclasses import fields

import pytest

import editing
import unlearning
from editing.rome import RomeConfig
from language_models import RequestError
from language_models.methods import GUARANTEES, configured, find, public_config, published
from unlearning.npo import NpoConfig

METHODS = {**editing.METHODS, **unlearning.METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_method_describes_itself(name: str) -> None:
    method = METHODS[name]

    assert method.name == name
    assert method.guarantee in GUARANTEES
    assert method.needs
    assert callable(method.run)
    assert all(setting["help"] and setting["source"] for setting in method.settings())
    assert all("published" in setting for setting in method.settings())
    if name not in ("mend", "malmen"):  # a published editor does not exist
        assert isinstance(published(method.config), method.config)
    assert public_config(configured(method, None)).keys() == {
        setting["name"] for setting in method.settings()
    }


def test_find_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(RequestError, match="Use one of: alphaedit, emmet"):
        find(editing.METHODS, "magic")


def test_configured_refuses_the_config_of_another_method() -> None:
    with pytest.raises(RequestError, match="takes a RomeConfig"):
        configured(editing.METHODS["rome"], NpoConfig())


def test_public_config_shows_the_number_of_private_texts_only() -> None:
    config = RomeConfig(moment_texts=("Malee Tanaka was born", "in Bangkok"))

    assert public_config(config)["moment_texts"] == 2


@pytest.mark.parametrize("name", METHODS)
def test_no_setting_that_takes_texts_or_paths_is_told_in_results(name: str) -> None:
    config = METHODS[name].config
    given = {"lead_ins": ("Malee says: ",), "moment_cache": "malee", "editor": "malee"}
    known = {one.name for one in fields(config)}

    told = str(public_config(config(**{k: v for k, v in given.items() if k in known})))

    assert "alee" not in told
