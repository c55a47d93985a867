"""The built-in methods. Each is a file of one screen: the whole difference between two is that of their files."""

from bench.methods.catlip import CatLip
from bench.methods.clip import Clip
from bench.methods.distillation import Distillation
from bench.methods.siglip import SigLip
from bench.methods.superclass import SuperClass
from bench.methods.superclip import SuperClip

# In the order of pages.
METHODS = {one.name: one for one in (Clip(), SigLip(), CatLip(), SuperClass(), SuperClip(), Distillation())}
