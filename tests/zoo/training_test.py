import keras
import numpy as np

from tests.data.conftest import smooth
from tfqnas.data import photos
from tfqnas.zoo.float_config import FloatConfig
from tfqnas.zoo.tasks import task_of
from tfqnas.zoo.training import Training


def test_the_end_of_a_training_on_photos_keeps_to_the_moving_statistics(tmp_path, monkeypatch):
    class Part:
        def update(self, *_):
            norm = training.model.get_layer("block0_conv0_norm")
            seen.append(np.array(norm.moving_mean))

        def resume(self, share):
            assert share == 0

    monkeypatch.setattr(photos, "load", lambda data_dir: photos.Photos([smooth(1, 40, 64)], [smooth(3, 31, 46)]))
    keras.utils.set_random_seed(0)
    settings = FloatConfig(
        net="srresnet",
        dataset="photos",
        filters=4,
        blocks=1,
        patch=8,
        batch_size=2,
        steps=5,
        output=str(tmp_path / "m.keras"),
    )
    training, seen = Training(settings, task_of(settings)), []
    training.run(Part())
    assert not np.array_equal(seen[0], seen[1])  # two of five steps by the batch
    for later in seen[2:]:
        np.testing.assert_array_equal(later, seen[1])
