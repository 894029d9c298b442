"""What the verbs share."""

import pytest

from jeton.cli.common import finishable


def test_ctrl_c_says_how_to_finish_the_run(tmp_path, capsys):
    def stop(folder):
        with finishable("transfer", folder):
            raise KeyboardInterrupt

    for folder, expected in (
        (tmp_path / "nothing", ""),
        (tmp_path, f"\njeton transfer --resume {tmp_path} finishes this run\n"),
    ):
        (tmp_path / "run.json").write_text("{}")
        with pytest.raises(KeyboardInterrupt):
            stop(folder)
        assert capsys.readouterr().err == expected
